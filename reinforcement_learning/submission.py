"""What graders load by name, without arguments: a policy and the observation builder that goes with it.

    POLICY=reinforcement_learning.submission.Policy
    OBS_BUILDER=reinforcement_learning.submission.ObservationBuilder

``flatland-trajectory-generate-from-policy`` plays with them. The checkpoint is the one that ships, or the one that
the environment variable FLATLAND_CHECKPOINT names; ``run.py`` plays with the same. It plans while it plays, for at
most FLATLAND_PLAN_SECONDS=S seconds a step (``planning.py``); with 0 the network plays alone. A network or features of
one's own that the checkpoint was trained with must be named in FLATLAND_NETWORK and FLATLAND_FEATURES.
"""

import argparse
import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from flatland.envs.rail_env import RailEnv
from flatland.envs.rail_env_action import RailEnvActions
from flatland.envs.rail_env_policy import RailEnvPolicy
from numpy.typing import NDArray

from reinforcement_learning.dddqn_policy import GreedyPolicy
from reinforcement_learning.playing.play_levels import warm_up
from reinforcement_learning.playing.policy import drive
from reinforcement_learning.saving.checkpointing import load_policy
from reinforcement_learning.scoring.planning import (
    PLAN_SECONDS,
    LiveLevel,
    Planner,
    PlanningOptions,
    seconds_to_plan,
    warm_up_planning,
)
from reinforcement_learning.settings.named_code import NOTHING_NAMED, NamedCode, named_by_environment
from utils.observation.observer import Observer
from utils.simulator.flatland_versions import BuilderOfBothVersions
from utils.simulator.rail_state import RailState
from utils.system.files import PROJECT_ROOT

_SHIPPED = PROJECT_ROOT / "checkpoints" / "flatland_policy.pt"
_CHECKPOINT, _PLAN_SECONDS = "FLATLAND_CHECKPOINT", "FLATLAND_PLAN_SECONDS"  # environment variables


def checkpoint_to_submit() -> Path:
    """The checkpoint that is submitted: the one that FLATLAND_CHECKPOINT names, else the one that ships."""
    return Path(os.environ.get(_CHECKPOINT) or _SHIPPED)


def planning_to_submit() -> PlanningOptions | None:
    """How submissions plan: for as many seconds a step as FLATLAND_PLAN_SECONDS says; None, not at all, if it is 0.

    Raises:
        ValueError: that is no number of seconds; the message is one sentence.
    """
    text = os.environ.get(_PLAN_SECONDS) or str(PLAN_SECONDS)
    try:
        return PlanningOptions.of_seconds(seconds_to_plan(text))
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"{_PLAN_SECONDS}: {error}.") from None


@lru_cache(maxsize=4)
def load_warmed_up(
    checkpoint: str | Path, policy_index: int | None = None, named: NamedCode = NOTHING_NAMED
) -> tuple[GreedyPolicy, Observer]:
    """A policy and its observer, ready to play in time; see ``load_policy``.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        FeaturesError: features of the user's own cannot be used.
    """
    torch.set_num_threads(1)
    policy, observer = load_policy(checkpoint, policy_index, named)
    warm_up(policy, observer)
    return policy, observer


class TrainObservation(NamedTuple):
    """What :class:`ObservationBuilder` hands to :class:`Policy` for one train.

    It is the level itself: the policy observes all trains in one go.
    """

    handle: int
    live: LiveLevel


class ObservationBuilder(BuilderOfBothVersions):
    """Keeps the state of the level up to date for :class:`Policy`."""

    def __init__(self) -> None:
        super().__init__()
        self._live: LiveLevel | None = None  # from the first observation of a level on

    def reset(self, env: RailEnv | None = None) -> None:
        """Gets an environment that was reset or loaded from a file; one that was loaded may be reset before it plays.

        It is not read yet: where ``--post-seed`` is given to graders, it has no timetable before that reset.
        """
        super().reset(env)
        self._live = None

    def get_many(self, handles: list[int] | None = None) -> dict[int, TrainObservation]:
        """The observations of all trains, by handle."""
        if self.env is None:
            raise RuntimeError("reset() must be called before observations are taken")
        if self._live is None:
            self._live = LiveLevel(self.env, RailState.from_env(self.env))
        self._live.state.update(self.env)
        return {handle: TrainObservation(handle, self._live) for handle in handles or []}

    def get(self, handle: int = 0) -> TrainObservation:
        """The observation of one train."""
        return self.get_many([handle])[handle]


class Policy(RailEnvPolicy):
    """The trained policy; all trains that have a choice go through the network in one batch."""

    def __init__(self) -> None:
        super().__init__()
        self._policy, self._observer = load_warmed_up(checkpoint_to_submit(), named=named_by_environment())
        self._planning = planning_to_submit()
        if self._planning is not None:
            warm_up_planning()
        self._planner: tuple[LiveLevel, Planner] | None = None  # and the level that it is for

    def act_many(
        self, handles: list[int], observations: list[TrainObservation], **kwargs: object
    ) -> dict[int, RailEnvActions]:
        """An action for each handle; ``observations`` are those of :class:`ObservationBuilder`, in the same order."""
        if not handles:
            return {}
        actions = self._drive(observations[0].live)
        return {
            handle: RailEnvActions.from_value(int(actions[observation.handle]))
            for handle, observation in zip(handles, observations, strict=True)
        }

    def _drive(self, live: LiveLevel) -> NDArray[np.int64]:
        """Actions ``[trains]`` of the whole level."""
        if self._planning is None:
            return drive(self._policy, self._observer, live.state)
        if self._planner is None or self._planner[0] is not live:
            self._planner = live, Planner(self._policy, self._observer, self._planning)
        return self._planner[1].act(live)

    def act(self, observation: TrainObservation, **kwargs: object) -> RailEnvActions:
        """The action of one train. It costs as much as the actions of all trains: prefer ``act_many``."""
        return self.act_many([observation.handle], [observation])[observation.handle]
