"""The processes of Ray on this machine that a training cannot do without."""

from contextlib import suppress

import psutil
import ray

from reinforcement_learning.distributed.answers import RayEndedError

_RAYLET, _CONTROL_SERVICE = "raylet", "gcs_server"


class LocalRay:
    """The raylet that this process is connected to, and the control service of the cluster where it was started here.

    Without them calls are never answered, and Ray ends this process as soon as it is to store something.
    """

    def __init__(self) -> None:
        own = ray.get_runtime_context().get_node_id()
        (socket,) = (node["RayletSocketName"] for node in ray.nodes() if node["NodeID"] == own)
        raylets = (process for process in psutil.process_iter(["name", "cmdline"]) if process.info["name"] == _RAYLET)
        self._processes = {
            process: _RAYLET
            for process in raylets
            if any(part.rpartition("=")[2] == socket for part in process.info["cmdline"] or [])
        }
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # others may end meanwhile
                if process.name() == _CONTROL_SERVICE:
                    self._processes[process] = _CONTROL_SERVICE

    def check(self) -> None:
        """Whether they are still there.

        Raises:
            RayEndedError: one has ended.
        """
        for process, name in self._processes.items():
            if _has_ended(process):
                raise RayEndedError(f"Ray has ended on this machine: its process {name} is gone.")


def _has_ended(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
