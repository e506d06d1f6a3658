"""Starts Ray on this machine or connects to a running cluster, and disconnects at the end."""

import importlib.util
import logging
import os
import socket
from types import TracebackType
from typing import Any

from reinforcement_learning.dueling_q_network import parameters_and_buffers
from reinforcement_learning.learning.networks import make_network
from reinforcement_learning.learning.replay_buffer import bytes_needed
from reinforcement_learning.settings.config import ConfigError, TrainingConfig
from reinforcement_learning.settings.devices import available_gpus, names_gpus
from reinforcement_learning.settings.features import feature_set_of
from reinforcement_learning.workers.round_player import DECISIONS_IN_ROUND
from utils.system.files import PROJECT_ROOT

_LEAST_OBJECT_STORE_BYTES = 128 * 1024**2
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # what ends a training is told in one sentence, by the process that trains
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",  # actors are as important as this process; Ray's own choice is 15
}


def n_rollout_actors(config: TrainingConfig) -> int:
    """How many rollout actors there are."""
    return max(1, config.num_workers)


def import_ray() -> Any:
    """The module ``ray``, set up to print little.

    Raises:
        ConfigError: it is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("--async_rl needs Ray, which is not installed: pip install -r requirements-ray.txt.")
    os.environ.update({name: os.environ.get(name, value) for name, value in _ENVIRONMENT.items()})
    import ray

    return ray


class RaySession:
    """A context manager: this process is connected to Ray, and disconnected at the end, which ends all its actors.

    Args:
        node: options of ``ray.init`` for a Ray that is started here.
    """

    def __init__(self, config: TrainingConfig, **node: Any) -> None:
        self._address = config.ray_address
        self._wants_gpus = names_gpus(use_gpu=config.use_gpu, devices=config.devices)
        # each actor counts for one core; where there are fewer, the system shares them out
        n_actors = n_rollout_actors(config) + config.num_policies
        cores = max(n_actors, os.cpu_count() or 1)
        self._node = {"num_cpus": cores, "object_store_memory": _object_store_bytes(config)} | node
        self._ray = import_ray()

    def __enter__(self) -> int:
        """Connects; returns how many GPUs there are, on this machine where Ray is started here.

        Raises:
            ConfigError: no cluster answers at the address.
        """
        if self._address not in ("", "auto"):
            _check_answers(self._address)
        # local: one of its own, though another one may run on this machine
        own = {"address": "local", **self._node, "include_dashboard": False}
        where = {"address": self._address} if self._address else own
        # the kit is found at the same place on every machine; a mapping of the user's own in the folder that this one
        # was started from
        path = os.pathsep.join([str(PROJECT_ROOT), os.getcwd(), os.environ.get("PYTHONPATH", "")])
        environment = {"env_vars": {"PYTHONPATH": path}}
        try:
            self._ray.init(logging_level=logging.ERROR, log_to_driver=False, runtime_env=environment, **where)
        except (ConnectionError, ValueError, RuntimeError, self._ray.exceptions.RayError) as error:
            reason = str(error).strip().splitlines()[0].rstrip(".")
            what = (
                f"--ray_address {self._address}: no Ray cluster answers" if self._address else "Ray cannot be started"
            )
            raise ConfigError(f"{what} ({reason}).") from error
        if self._address:
            return int(self._ray.cluster_resources().get("GPU", 0))
        return available_gpus() if self._wants_gpus else 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ray.shutdown()


def _object_store_bytes(config: TrainingConfig) -> int:
    """Twice what may be on its way at a time; Ray itself would claim a third of the memory."""
    feature_set = feature_set_of(config)
    # episodes come whole, those of several environments maybe together: twice what is played in a round
    n_rows = 2 * config.num_policies * DECISIONS_IN_ROUND * (1 + feature_set.n_neighbours)
    in_round = bytes_needed(n_rows, feature_set)
    networks = [make_network(config, feature_set, index) for index in range(config.num_policies)]
    weights = sum(4 * tensor.numel() for network in networks for tensor in parameters_and_buffers(network))
    on_the_way = (n_rollout_actors(config) + 4) * in_round + 16 * weights  # of now, and a few old ones
    return _LEAST_OBJECT_STORE_BYTES + 2 * on_the_way


def _check_answers(address: str) -> None:
    """Ray itself would try for many minutes.

    Raises:
        ConfigError: nobody is there, or this is no address.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in address:
        raise ConfigError(f"--ray_address is {address!r}, but must be auto or the host:port of a cluster's head node.")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--ray_address {address}: no Ray cluster answers ({error}).") from error
