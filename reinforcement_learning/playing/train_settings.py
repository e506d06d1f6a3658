"""Which policy drives each train of an episode, how much it explores, and what kind of task it has."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch


@dataclass(frozen=True)
class TrainSettings:
    """The policies of an episode's trains, how much they explore, and what their task is.

    All of it is settled when the episode begins. A number holds for every train; an array ``[trains]`` has a value
    for each.
    """

    epsilon: float | npt.NDArray[np.float64] = 0.0
    policy_of_train: int | npt.NDArray[np.int64] = 0  # which of the rollout's policies
    gamma: float | npt.NDArray[np.float64] = 1.0  # for which the rewards are kept exactly, see ``reward_parts``
    in_a_team: bool | npt.NDArray[np.bool_] = False  # whether the task ends with the episode only, not on arrival
    demonstration: bool = False  # whether a plan in space and time drives all trains, where there is one

    def padded(self, n_trains: int, n_places: int) -> "TrainSettings":
        """Settings for ``n_places`` trains, of which only the first ``n_trains`` are there."""
        more = 0, n_places - n_trains
        wide: dict[str, Any] = {name: value for name, value in vars(self).items() if np.ndim(value)}
        padded: dict[str, Any] = {name: np.pad(value, more, mode="edge") for name, value in wide.items()}
        return replace(self, **padded)

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        whole = ("policy_of_train", "in_a_team", "demonstration")
        return {
            name: torch.as_tensor(value, dtype=torch.int64 if name in whole else torch.float64)
            for name, value in vars(self).items()
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "TrainSettings":
        """The settings whose ``state_dict`` this is; earlier versions told a team by the weight of its rewards."""
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
        in_a_team = arrays["in_a_team"] if "in_a_team" in arrays else arrays["team_reward"]
        return cls(
            arrays["epsilon"],
            arrays["policy_of_train"],
            arrays["gamma"],
            in_a_team > 0,
            bool(arrays.get("demonstration", False)),  # earlier versions had none
        )
