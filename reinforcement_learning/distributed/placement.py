"""Where the learners go: policy p onto its GPU, by the same mapping as without Ray."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from reinforcement_learning.settings.config import ConfigError

_SECONDS_FOR_GPUS = 60


@dataclass(frozen=True)
class Place:
    """A learner's place: options of its actor, and the device as the actor sees it."""

    options: dict[str, Any]
    device: str


def place_learners(devices: Sequence[str], *, on_cluster: bool) -> list[Place]:
    """A place for each learner, by the device that ``place_policies`` gives its policy.

    A Ray of this training's own lies on this machine alone, and ``cuda:1`` is this machine's GPU 1. The GPUs of a
    cluster have no numbers, and Ray chooses among them: there is a bundle of resources for each number, and all
    policies of a number share its GPU.

    Raises:
        ConfigError: the GPUs, with a core for each policy beside them, are not to be had.
    """
    gpus = sorted({device for device in devices if device != "cpu"})
    if not on_cluster or not gpus:
        return [Place({"num_cpus": 1}, device) for device in devices]
    bundles = [{"GPU": 1.0, "CPU": float(devices.count(gpu))} for gpu in gpus]
    group = placement_group(bundles)
    if not group.wait(_SECONDS_FOR_GPUS):
        have = {name: ray.cluster_resources().get(name, 0) for name in ("GPU", "CPU")}
        raise ConfigError(
            f"the learners need {len(gpus)} GPUs with {len(devices)} cores beside them, but of the cluster's "
            f"{have['GPU']:g} GPUs and {have['CPU']:g} cores these were not free within {_SECONDS_FOR_GPUS} seconds."
        )
    return [_place(device, devices, gpus, group) for device in devices]


def _place(device: str, devices: Sequence[str], gpus: Sequence[str], group: Any) -> Place:
    if device == "cpu":
        return Place({"num_cpus": 1}, "cpu")
    strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=gpus.index(device))
    share = 1 / devices.count(device)
    # the actor sees its own GPU alone
    return Place({"num_cpus": 1, "num_gpus": share, "scheduling_strategy": strategy}, "cuda:0")
