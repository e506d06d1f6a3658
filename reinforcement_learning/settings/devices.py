"""On which device each policy is."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from utils.system.device_errors import describe_device_error, is_device_error


class DeviceError(ValueError):
    """Devices that cannot be used; the message is one sentence."""


@dataclass(frozen=True)
class Placement:
    """The device of each policy, and what the user should know of it (empty: nothing)."""

    devices: list[str]
    note: str = ""


def place_policies(n_policies: int, *, use_gpu: bool, devices: str, n_gpus: int) -> Placement:
    """Puts policy p on device p modulo the number of devices.

    Args:
        devices: the devices to use, as in ``cuda:1,cuda:0,cpu``; empty: all GPUs. ``cpu:1``, ``cpu:2``, ... are further
            names of the CPU: the policies of each name learn in a process of their own.

    Raises:
        DeviceError: a device that is listed is none, or this machine does not have it.
    """
    names, note = ["cpu"], ""
    if devices:
        names = [_checked(name.strip(), n_gpus) for name in devices.split(",")]
    elif use_gpu and n_gpus:
        names = [f"cuda:{i}" for i in range(n_gpus)]
    elif use_gpu:
        whom = "training" if n_policies == 1 else f"all {n_policies} policies train"
        note = f"--use_gpu was given, but PyTorch finds no CUDA GPU; {whom} on the CPU."
    return Placement([names[p % len(names)] for p in range(n_policies)], note)


def names_gpus(*, use_gpu: bool, devices: str) -> bool:
    """Whether the command line asks for GPUs; else nobody should look for any."""
    return use_gpu or "cuda" in devices


def of_pytorch(name: str) -> str:
    """What PyTorch calls a device: the CPU has one name only."""
    return "cpu" if name.startswith("cpu:") else name


@contextmanager
def on_device(name: str | torch.device) -> Iterator[None]:
    """Turns what a device raises into a sentence.

    Raises:
        DeviceError: the device has failed.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_device_error(error):
            raise
        raise DeviceError(f"{name} cannot be used ({describe_device_error(error)}).") from error


def available_gpus() -> int:
    """How many CUDA GPUs PyTorch can use."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def describe(devices: list[str]) -> str:
    """One line: ``cpu``, or the device of each policy."""
    if len(set(devices)) == 1:
        return devices[0]
    homes = {name: [str(p) for p, device in enumerate(devices) if device == name] for name in sorted(set(devices))}
    return "; ".join(f"{name} (policies {', '.join(policies)})" for name, policies in homes.items())


def _checked(name: str, n_gpus: int) -> str:
    kind, _, index = name.partition(":")
    if kind not in ("cuda", "cpu") or (index and not index.isdecimal()):
        raise DeviceError(f"--devices names {name!r}, but must be a list such as cuda:0,cuda:1 or cpu:0,cpu:1.")
    number = int(index[:9] or 0)  # no machine has as many
    if kind == "cpu":
        return f"cpu:{number}" if number else "cpu"
    if number >= n_gpus:
        raise DeviceError(f"--devices names {name!r}, but PyTorch finds {n_gpus} CUDA GPUs on this machine.")
    return f"cuda:{number}"
