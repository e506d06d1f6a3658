"""Rules that drive trains without having learned anything: the least that a trained policy should beat.

A learned policy sees observations and masks. A rule sees the whole level, and drives one level from its start to its
end: a new one is made for each level.
"""

import inspect
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from flatland.envs.rail_env import RailEnv
from flatland.envs.rail_env_action import RailEnvActions
from flatland.envs.rail_env_policy import RailEnvPolicy

from reinforcement_learning.playing.policy import Actions
from utils.observation.feature_sets import get_feature_set
from utils.observation.observer import Observer
from utils.observation.route_features import least_detour_actions
from utils.rules.shortest_path import shortest_path_actions
from utils.simulator.flatland_versions import reset_builder
from utils.simulator.rail_grid import DO_NOTHING, MOVE_FORWARD, N_ACTIONS
from utils.simulator.simulator import FlatlandSimulator


class MissingPackageError(ImportError):
    """A rule needs a package that is not installed; the message is one sentence that says how to install it."""


class Rule(Protocol):
    """Drives all trains of one level."""

    def act(self, simulator: FlatlandSimulator) -> Actions:
        """An action for each train, int64 ``[trains]``, at each step from the first to the last."""
        ...


class RandomRule(Rule):
    """Each of the five actions equally likely, possible or not."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def act(self, simulator: FlatlandSimulator) -> Actions:
        return self._random.integers(N_ACTIONS, size=simulator.state.n_trains)


class DoNothing(Rule):
    """No train ever departs. Random play scores worse, which is why a score alone says little."""

    def act(self, simulator: FlatlandSimulator) -> Actions:
        return np.full(simulator.state.n_trains, DO_NOTHING, dtype=np.int64)


class Forward(Rule):
    """Forward, always: trains stop for good at the first switch that has no way straight on."""

    def act(self, simulator: FlatlandSimulator) -> Actions:
        return np.full(simulator.state.n_trains, MOVE_FORWARD, dtype=np.int64)


class ShortestPath(Rule):
    """Every train departs at once and takes its shortest path, by its stops, whoever is in the way."""

    def act(self, simulator: FlatlandSimulator) -> Actions:
        return shortest_path_actions(simulator.state)


class LeastDetour(Rule):
    """Every train departs as soon as it is safe and takes the safe way with the least detour; it waits if none is safe.

    It goes by its intermediate stops and stands at each until it may depart.

    See :mod:`utils.safe_moves.safe_moves` and :mod:`utils.observation.route_features`.
    """

    def __init__(self) -> None:
        self._features = get_feature_set("tree_routes")
        self._observer = Observer(self._features, decision_points="switches", safe_moves=True)

    def act(self, simulator: FlatlandSimulator) -> Actions:
        features, mask = self._observer.observe(simulator.state)
        actions = least_detour_actions(features[:, self._features.route_features], mask)
        self._observer.settle(simulator.state, actions)
        return actions


class RailEnvPolicyRule(Rule):
    """A policy of flatland's own kind, which gets an observation of each train and gives an action for each.

    Trains that get no action do nothing, as in flatland.

    Args:
        policy: its attribute ``observation_builder``, if it has one, is an ``ObservationBuilder`` of flatland or the
            class of one, and makes the observations; without it each train's observation is the ``RailEnv``.
    """

    def __init__(self, policy: RailEnvPolicy) -> None:
        self._policy = policy
        builder = getattr(policy, "observation_builder", None)
        self._builder = builder() if isinstance(builder, type) else builder
        self._begun = False

    def act(self, simulator: FlatlandSimulator) -> Actions:
        handles = list(range(simulator.state.n_trains))
        chosen = self._policy.act_many(handles, self._observe(simulator.env, handles))
        return np.array([_value(chosen.get(handle, DO_NOTHING)) for handle in handles])

    def _observe(self, env: RailEnv, handles: list[int]) -> list[Any]:
        if self._builder is None:
            return [env] * len(handles)
        if not self._begun:
            reset_builder(self._builder, env)
            self._begun = True
        observations = self._builder.get_many(handles)
        return [observations[handle] for handle in handles]


def _value(action: Any) -> Any:
    return action.value if isinstance(action, RailEnvActions) else action


def deadlock_avoidance() -> Rule:
    """The heuristic of the package flatland-baselines: trains enter a section only where they can get out of it.

    Raises:
        MissingPackageError: the package is not installed.
    """
    try:
        from flatland_baselines.deadlock_avoidance_heuristic.policy.deadlock_avoidance_policy import (
            DeadLockAvoidancePolicy,
        )
    except ImportError as error:
        raise MissingPackageError(
            "dla needs the package flatland-baselines: pip install flatland-baselines==4.3.0"
        ) from error
    return RailEnvPolicyRule(DeadLockAvoidancePolicy())


RULES: dict[str, Callable[..., Rule]] = {
    "random": RandomRule,
    "do_nothing": DoNothing,
    "forward": Forward,
    "shortest_path": ShortestPath,
    "least_detour": LeastDetour,
    "dla": deadlock_avoidance,
}
"""By name, what makes a rule for a level; see :func:`make_anew`."""


def make_anew(make: Callable[..., Any], seed: int) -> Any:
    """What ``make`` makes for a level; it gets the level's seed if it has a parameter of the name ``seed``."""
    return make(seed=seed) if "seed" in inspect.signature(make).parameters else make()
