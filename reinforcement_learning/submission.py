"""What graders load by name, without arguments: a policy and the observation builder that goes with it.

    POLICY=reinforcement_learning.submission.Policy
    OBS_BUILDER=reinforcement_learning.submission.ObservationBuilder

``flatland-trajectory-generate-from-policy`` plays with them. The checkpoint is the one that ships, or the one that
the environment variable FLATLAND_CHECKPOINT names; ``run.py`` plays with the same.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from flatland.core.env_observation_builder import ObservationBuilder as FlatlandObservationBuilder
from flatland.envs.rail_env import RailEnv
from flatland.envs.rail_env_action import RailEnvActions
from flatland.envs.rail_env_policy import RailEnvPolicy
from numpy.typing import NDArray

from reinforcement_learning.checkpointing import checkpoint_to_submit, load_policy
from reinforcement_learning.dddqn_policy import GreedyPolicy
from utils.action_mask import NOTHING_TO_DECIDE
from utils.deadlock_check import deadlocked
from utils.env_configs import ENV_CONFIGS, make_rail_env
from utils.observation_utils import Observer
from utils.rail_grid import N_ACTIONS
from utils.rail_state import RailState


@lru_cache(maxsize=4)
def load_warmed_up(checkpoint: str | Path, policy_index: int = 0) -> tuple[GreedyPolicy, Observer]:
    """A policy and its observer that have played a step already: what is compiled or loaded once, is.

    Raises:
        CheckpointError: the checkpoint cannot be used.
    """
    torch.set_num_threads(1)
    policy, observer = load_policy(checkpoint, policy_index)
    state = RailState.from_env(make_rail_env(ENV_CONFIGS["Tiny"], 0))
    policy.act(*observer.observe(state))
    deadlocked(state)
    return policy, observer


class ObservationBuilder(FlatlandObservationBuilder):
    """Each train's observation and, behind it, its action mask: one float32 vector ``[features + 5]``."""

    def __init__(self) -> None:
        super().__init__()
        _, self._observer = load_warmed_up(checkpoint_to_submit())
        self._state: RailState | None = None

    def reset(self, env: RailEnv) -> None:
        """Reads the level of an environment that was reset or loaded from a file."""
        super().reset(env)
        self._state = RailState.from_env(env)

    def get_many(self, handles: list[int] | None = None) -> dict[int, NDArray[np.float32]]:
        """The vectors of all trains in one go, by handle."""
        if self._state is None:
            raise RuntimeError("reset() must be called before observations are taken")
        self._state.update(self.env)
        features, mask = self._observer.observe(self._state)
        mask[deadlocked(self._state)] = NOTHING_TO_DECIDE
        vectors = np.concatenate([features, mask], axis=1, dtype=np.float32)
        return {handle: vectors[handle] for handle in handles or []}

    def get(self, handle: int = 0) -> NDArray[np.float32]:
        """The vector of one train. Costs as much as those of all trains: prefer ``get_many``."""
        return self.get_many([handle])[handle]


class Policy(RailEnvPolicy):
    """The trained policy; all trains that have a choice go through the network in one batch."""

    def __init__(self) -> None:
        super().__init__()
        self._policy, _ = load_warmed_up(checkpoint_to_submit())

    def act_many(
        self, handles: list[int], observations: list[NDArray[np.float32]], **kwargs: object
    ) -> dict[int, RailEnvActions]:
        """An action for each handle; ``observations`` are those of :class:`ObservationBuilder`, in the same order."""
        vectors = np.stack(observations)
        features, mask = vectors[:, :-N_ACTIONS], vectors[:, -N_ACTIONS:] > 0
        actions = mask.argmax(axis=1)
        deciding = np.flatnonzero(mask.sum(axis=1) > 1)
        if len(deciding):
            actions[deciding] = self._policy.act(features[deciding], mask[deciding])
        return {h: RailEnvActions.from_value(a) for h, a in zip(handles, actions.tolist(), strict=True)}

    def act(self, observation: NDArray[np.float32], **kwargs: object) -> RailEnvActions:
        """The action of one train."""
        return self.act_many([0], [observation])[0]
