"""Which policy drives each train of an episode, how much it explores, and what is learned from it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reinforcement_learning.playing.reward_shaping import RewardWeights, for_each


@dataclass(frozen=True)
class TrainSettings:
    """The policies of an episode's trains, how much they explore and what is learned from them.

    All of it is settled when the episode begins. A number holds for every train; an array ``[trains]`` has a value
    for each.
    """

    epsilon: float | npt.NDArray[np.float64] = 0.0
    policy_of_train: int | npt.NDArray[np.int64] = 0  # which of the rollout's policies
    reward_weights: RewardWeights | None = None  # None: what the rollout was made with
    n_step: int | npt.NDArray[np.int64] | None = None  # None: what the rollout was made with, the largest possible
    demonstration: bool = False  # whether a plan in space and time drives all trains, where there is one

    def padded(self, n_trains: int, n_places: int) -> "TrainSettings":
        """Settings for ``n_places`` trains, of which only the first ``n_trains`` are there."""
        if n_trains == n_places:
            return self

        def pad(value: Any) -> Any:
            return value if np.ndim(value) == 0 else np.pad(value, (0, n_places - n_trains), mode="edge")

        weights = self.reward_weights and for_each(pad, self.reward_weights)
        return TrainSettings(
            pad(self.epsilon), pad(self.policy_of_train), weights, pad(self.n_step), self.demonstration
        )

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint, of settings that leave nothing to the rollout."""
        assert self.reward_weights is not None
        floats = {"epsilon": self.epsilon, **vars(self.reward_weights)}
        state: dict[str, Any] = {name: torch.as_tensor(value, dtype=torch.float64) for name, value in floats.items()}
        whole = {"policy_of_train": self.policy_of_train, "n_step": self.n_step, "demonstration": self.demonstration}
        return state | {name: torch.as_tensor(value, dtype=torch.int64) for name, value in whole.items()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "TrainSettings":
        """The settings whose ``state_dict`` this is."""
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
        own = {name: arrays.pop(name) for name in ("epsilon", "policy_of_train", "n_step")}
        demonstration = bool(arrays.pop("demonstration", False))  # earlier versions had none
        return cls(reward_weights=RewardWeights(**arrays), demonstration=demonstration, **own)
