"""Where in the cluster the learners go: policy p onto its GPU, by the same mapping as on one machine."""

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


def place_learners(devices: Sequence[str]) -> list[Place]:
    """A place for each learner, by the device that ``place_policies`` gives its policy.

    ``cuda:1`` is the cluster's GPU 1: there is a bundle of resources for each GPU, and all policies of a GPU share its.

    Raises:
        ConfigError: the GPUs, with a core for each policy beside them, are not to be had.
    """
    gpus = sorted({device for device in devices if device != "cpu"})
    if not gpus:
        return [Place({"num_cpus": 1}, "cpu") for _ in devices]
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
