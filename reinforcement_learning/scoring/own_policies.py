"""Rules and policies of one's own, named on the command line as ``package.module:callable``.

What the name stands for, a class most often, is called anew for each level: with the level's seed as ``seed`` if it
has a parameter of that name, else without arguments. What comes of it is known by its methods:

- ``act(simulator) -> actions``: a rule, which sees the whole level; see :class:`~.heuristics.Rule`.
- ``act(observations, action_mask, epsilon) -> actions``: a policy, which sees what trained policies see; see
  :class:`~reinforcement_learning.playing.policy.Policy`. An attribute ``feature_set`` names the feature set, if it is
  not the one that trainings have unless told otherwise.
- ``act_many(handles, observations) -> actions by handle``: a ``RailEnvPolicy`` of flatland; see
  :class:`~.heuristics.RailEnvPolicyRule` for what it observes.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from reinforcement_learning.playing.policy import ActionMasks, Actions, Epsilon, Observations, Policy, drive
from reinforcement_learning.scoring.heuristics import RULES, RailEnvPolicyRule, Rule, make_anew
from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.settings.extensions import ExtensionError, extension_errors, find_callable, whole_numbers
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.observation.feature_sets import get_feature_set
from utils.observation.observer import Observer
from utils.simulator.rail_grid import N_ACTIONS
from utils.simulator.simulator import FlatlandSimulator
from utils.simulator.state_arrays import READY_TO_DEPART

KINDS = (
    "act(simulator), act(observations, action_mask, epsilon) or, as a RailEnvPolicy of flatland, "
    "act_many(handles, observations)"
)


def find_own_rule(name: str) -> Callable[[int], Rule]:
    """What makes a user's rule or policy for a level from the level's seed; both are rules from here on.

    The first steps of a small level are played here, so that mistakes are told before the work begins.

    Raises:
        ExtensionError: there is nothing of that name, it cannot be made, is of no known kind, or fails.
    """
    make = find_callable(name, "policy", RULES)

    def make_rule(seed: int) -> Rule:
        return _OwnRule(name, make, seed)

    _try_out(make_rule(0))
    return make_rule


def _try_out(rule: Rule) -> None:
    """Plays until a train may depart: before that a policy has nothing to decide."""
    simulator, asked = FlatlandSimulator(make_rail_env(ENV_CONFIGS["Tiny"], 0)), False
    while not asked:
        asked = bool((simulator.state.state == READY_TO_DEPART).any())
        simulator.step(rule.act(simulator))


class _OwnRule(Rule):
    """A user's rule or policy for one level; whatever it raises or gives that is no action ends in one sentence."""

    def __init__(self, name: str, make: Callable[..., Any], seed: int) -> None:
        self._name = name
        with extension_errors(f"the policy {name!r} cannot be made"):
            self._rule = _as_rule(name, make_anew(make, seed))

    def act(self, simulator: FlatlandSimulator) -> Actions:
        state = simulator.state
        who = f"the policy {self._name!r}"
        with extension_errors(f"{who} failed in step {state.elapsed_steps}"):
            given = self._rule.act(simulator)
        return whole_numbers(given, state.n_trains, N_ACTIONS, who)


def _as_rule(name: str, made: Any) -> Rule:
    if hasattr(made, "act_many"):
        return RailEnvPolicyRule(made)
    act = getattr(made, "act", None)
    if callable(act) and _takes(act, 3):
        return _PolicyRule(name, made)
    if callable(act) and _takes(act, 1):
        rule: Rule = made
        return rule
    raise ExtensionError(f"the policy {name!r} makes a {type(made).__name__}, but that must have {KINDS}.")


def _takes(act: Callable[..., Any], n_arguments: int) -> bool:
    try:
        inspect.signature(act).bind(*range(n_arguments))
    except TypeError:
        return False
    return True


class _PolicyRule(Rule):
    """A policy that drives all trains of a level."""

    def __init__(self, name: str, policy: Policy) -> None:
        self._name, self._policy = name, policy
        feature_set = getattr(policy, "feature_set", TrainingConfig.feature_set)
        try:
            self._observer = Observer(get_feature_set(feature_set), safe_moves=TrainingConfig.safe_moves)
        except ValueError as error:
            raise ExtensionError(f"the policy {name!r} has an unknown feature_set: {error}.") from error

    def act(self, simulator: FlatlandSimulator) -> Actions:
        return drive(_PossibleActions(self._name, self._policy), self._observer, simulator.state)


class _PossibleActions(Policy):
    """A policy whose actions are looked at: each must be possible."""

    def __init__(self, name: str, policy: Policy) -> None:
        self._name, self._policy = name, policy

    def act(self, observations: Observations, action_mask: ActionMasks, epsilon: Epsilon = 0.0) -> Actions:
        who = f"the policy {self._name!r}"
        chosen = whole_numbers(self._policy.act(observations, action_mask, epsilon), len(observations), N_ACTIONS, who)
        for action, possible in zip(chosen, action_mask, strict=True):
            if not possible[action]:
                numbers = ", ".join(map(str, np.flatnonzero(possible)))
                raise ExtensionError(f"{who} chose action {action} where its mask leaves only {numbers}.")
        return chosen
