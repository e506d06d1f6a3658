"""What plays levels: checkpoints, rules, planning, several policies together; found by what the command line says."""

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt

from reinforcement_learning.multi_policy.mapping import PolicyMapping
from reinforcement_learning.multi_policy.modes import make_mapping
from reinforcement_learning.playing.episode_result import EpisodeResult
from reinforcement_learning.playing.play_levels import play_levels, play_levels_together, warm_up
from reinforcement_learning.playing.policy import Policy
from reinforcement_learning.saving.checkpointing import CheckpointError, load_policies, load_policy
from reinforcement_learning.scoring.heuristics import RULES, Rule, make_anew
from reinforcement_learning.scoring.own_policies import find_own_rule
from reinforcement_learning.scoring.planning import Planner, PlanningOptions, warm_up_planning
from reinforcement_learning.scoring.play_by_rule import play_by_rule, play_each_train_alone
from reinforcement_learning.settings.named_code import NOTHING_NAMED, NamedCode
from utils.observation.observer import Observer
from utils.pictures.rendering import EpisodeRecorder, RecordedSimulator
from utils.simulator.rail_state import RailState
from utils.simulator.simulator import FlatlandSimulator
from utils.system.stopwatch import Stopwatch

BEST_POLICY, MAPPING = "best", "mapping"
"""What ``--policy_index`` takes besides numbers."""
CEILING = "ceiling"
PLANNING = " with planning"
"""What the name of a checkpoint ends in where it plans while it plays."""
NAMES = (*RULES, CEILING)
"""The players that are no checkpoints."""


class Player(Protocol):
    """Plays levels, one after the other and each by itself."""

    def play(self, simulator: FlatlandSimulator, seed: int, stopwatch: Stopwatch | None = None) -> EpisodeResult:
        """Plays one level to its end; ``seed`` is the level's."""
        ...


@dataclass(frozen=True)
class LearnedPlayer(Player):
    """A trained policy."""

    policy: Policy
    observer: Observer

    def play(self, simulator: FlatlandSimulator, seed: int, stopwatch: Stopwatch | None = None) -> EpisodeResult:
        return play_levels([simulator], self.observer, self.policy, stopwatch=stopwatch)[0]


@dataclass(frozen=True)
class PlanningPlayer(Player):
    """A trained policy that plans while it plays."""

    policy: Policy
    observer: Observer
    options: PlanningOptions

    def play(self, simulator: FlatlandSimulator, seed: int, stopwatch: Stopwatch | None = None) -> EpisodeResult:
        planner = Planner(self.policy, self.observer, self.options)
        rule = _RecordedPlanner(planner, simulator.recorder) if isinstance(simulator, RecordedSimulator) else planner
        return play_by_rule(simulator, rule, stopwatch=stopwatch)


@dataclass(frozen=True)
class _RecordedPlanner(Rule):
    """A planner that hands its first plan to a recorder."""

    planner: Planner
    recorder: EpisodeRecorder

    def act(self, simulator: FlatlandSimulator) -> npt.NDArray[np.int64]:
        actions = self.planner.act(simulator)
        if self.planner.plan is not None and simulator.state.elapsed_steps == 0:
            self.recorder.planned = self.planner.plan.ways()
        return actions


@dataclass(frozen=True)
class RulePlayer(Player):
    """A rule that ``make`` makes anew for each level from the level's seed."""

    make: Callable[[int], Rule]

    def play(self, simulator: FlatlandSimulator, seed: int, stopwatch: Stopwatch | None = None) -> EpisodeResult:
        return play_by_rule(simulator, self.make(seed), stopwatch=stopwatch)


class CeilingPlayer(Player):
    """Each train alone on the map."""

    def play(self, simulator: FlatlandSimulator, seed: int, stopwatch: Stopwatch | None = None) -> EpisodeResult:
        stopwatch = stopwatch or Stopwatch()
        stopwatch.start()
        result = play_each_train_alone(simulator.env)
        stopwatch.lap("step")
        return result


@dataclass(frozen=True)
class PopulationPlayer(Player):
    """All policies of a training, mapped onto the trains as they were in training; the level's seed is the episode."""

    policies: Sequence[Policy]
    observer: Observer
    mapping: PolicyMapping

    def play(self, simulator: FlatlandSimulator, seed: int, stopwatch: Stopwatch | None = None) -> EpisodeResult:

        def policy_of_train(number: int, state: RailState) -> npt.NDArray[np.int64]:
            return self.mapping.policy_of_train(seed, state)

        return play_levels_together([simulator], self.observer, self.policies, policy_of_train, stopwatch=stopwatch)[0]


def policy_choice(text: str) -> int | str:
    """What ``--policy_index`` may be: a number, ``best`` or ``mapping``.

    Raises:
        argparse.ArgumentTypeError: it is something else.
    """
    if text in (BEST_POLICY, MAPPING):
        return text
    if text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is neither a number from 0 on nor {BEST_POLICY} nor {MAPPING}")


def is_checkpoint(name: str) -> bool:
    """Whether ``--policy`` means a file: neither a name on board nor ``package.module:callable``."""
    return name not in NAMES and (":" not in name or os.path.isfile(name))


def with_planned(names: Sequence[str]) -> list[str]:
    """The same players, each checkpoint followed by itself with planning; one that is named so plans only."""
    names_of = ([n, n + PLANNING] if is_checkpoint(n) and not n.endswith(PLANNING) else [n] for n in names)
    return [player for players in names_of for player in players]


def load_player(
    name: str, policy_index: int | str = BEST_POLICY, plan_seconds: float = 0.0, named: NamedCode = NOTHING_NAMED
) -> Player:
    """The player that a checkpoint's path, one of :data:`NAMES` or ``package.module:callable`` stands for.

    Args:
        name: the path or the name; a path may be followed by :data:`PLANNING`.
        plan_seconds: most that a step may take to plan, for players that do.

    Raises:
        CheckpointError: it is none of them, or the checkpoint cannot be used.
        MissingPackageError: the rule needs a package that is not installed.
        ExtensionError: what a user wrote cannot be used.
        ConfigError: the mapping cannot be found.
    """
    if name == CEILING:
        return CeilingPlayer()
    path, plans = name.removesuffix(PLANNING), name.endswith(PLANNING)
    if not is_checkpoint(path):
        return load_rule(name)
    if not os.path.exists(path):
        raise CheckpointError(
            f"--policy {path} is neither a checkpoint file nor package.module:callable nor one of {', '.join(NAMES)}."
        )
    if policy_index == MAPPING:
        policies, observer, config = load_policies(path, named)
        return PopulationPlayer(policies, observer, make_mapping(config))
    policy, observer = load_policy(path, None if policy_index == BEST_POLICY else int(policy_index), named)
    warm_up(policy, observer)
    return planning_player(policy, observer, PlanningOptions(plan_seconds) if plans else None)


def load_rule(name: str) -> RulePlayer:
    """The player that a rule on board or a user's ``package.module:callable`` stands for.

    Raises:
        MissingPackageError, ExtensionError: see :func:`load_player`.
    """
    if name not in RULES:
        return RulePlayer(find_own_rule(name))
    make = partial(make_anew, RULES[name])
    make(0)  # a package that it lacks is missed now
    return RulePlayer(make)


def planning_player(policy: Policy, observer: Observer, options: PlanningOptions | None) -> Player:
    """A player that plans as the options say, ready to play in time; without options it does not."""
    if options is None:
        return LearnedPlayer(policy, observer)
    warm_up_planning()
    return PlanningPlayer(policy, observer, options)
