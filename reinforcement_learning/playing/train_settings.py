"""Which policy drives each train of an episode, how much it explores, and what is learned from it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reinforcement_learning.playing.reward_shaping import RewardShaping

_FLOATS = ("epsilon", "gamma", "shaping", "arrival_reward", "deadlock_penalty")


@dataclass(frozen=True)
class TrainSettings:
    """The policies of an episode's trains, how much they explore and what is learned from them.

    All of it is settled when the episode begins. A number holds for every train; an array ``[trains]`` has a value
    for each.
    """

    epsilon: float | npt.NDArray[np.float64] = 0.0
    policy_of_train: int | npt.NDArray[np.int64] = 0  # which of the rollout's policies
    shaping: RewardShaping | None = None  # None: what the rollout was made with
    n_step: int | npt.NDArray[np.int64] | None = None  # None: what the rollout was made with, the largest possible

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint, of settings that leave nothing to the rollout."""
        assert self.shaping is not None
        values = {name: getattr(self.shaping, name) for name in _FLOATS[1:]} | {"epsilon": self.epsilon}
        state: dict[str, Any] = {name: torch.as_tensor(value, dtype=torch.float64) for name, value in values.items()}
        whole = {"policy_of_train": self.policy_of_train, "n_step": self.n_step}
        return state | {name: torch.as_tensor(value, dtype=torch.int64) for name, value in whole.items()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "TrainSettings":
        """The settings whose ``state_dict`` this is."""
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
        shaping = RewardShaping(**{name: arrays[name] for name in _FLOATS[1:]})
        return cls(arrays["epsilon"], arrays["policy_of_train"], shaping, arrays["n_step"])
