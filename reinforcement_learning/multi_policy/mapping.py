"""Which policy drives which train: rules that give every train of an episode one of several policies.

A mapping is a function of the training's seed and the number of the episode alone. It is the same whichever process
plays the episode, and a resumed training needs no memory of earlier ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.settings.extensions import ExtensionError, extension_errors, whole_numbers
from utils.simulator.rail_state import RailState
from utils.system.seeds import Stream, generator

PolicyOfTrain = npt.NDArray[np.int64]  # [trains], the number of each train's policy


@dataclass(frozen=True)
class MappingRequest:
    """What a rule is told about the episode whose trains need policies."""

    state: RailState  # the level and its trains as they are at the start; to be read only
    environment: int  # which of the environments side by side: the episode's number modulo their number
    episode: int  # number of the training episode, from 0 on
    draw: int  # number of this mapping: it stays for --resample_policies_every episodes of an environment
    n_policies: int
    mixed: bool  # False: all trains of the environment must get the same policy
    random: np.random.Generator  # begins anew, in the same state, for each episode of a draw
    seed: int  # of the training

    @property
    def n_trains(self) -> int:
        """How many trains need a policy."""
        return self.state.n_trains

    def turns(self, count: int) -> PolicyOfTrain:
        """The next ``count`` policies of an endless queue in which each policy comes once in ``n_policies`` turns.

        The order within such a round is random. Draw ``d`` gets the turns from ``d * count`` on, so a rule should
        ask for the same number each time.
        """
        first = self.draw * count
        turns = np.arange(first, first + count)
        rounds = {
            number: generator(self.seed, Stream.POLICY_TURNS, number).permutation(self.n_policies)
            for number in np.unique(turns // self.n_policies).tolist()
        }
        return np.array([rounds[turn // self.n_policies][turn % self.n_policies] for turn in turns.tolist()], np.int64)


class MappingRule(Protocol):
    """What a user may put in place of the rules on board, as ``package.module:callable``."""

    def __call__(self, request: MappingRequest, /) -> npt.ArrayLike:
        """One whole number from 0 to ``n_policies - 1`` for each train, in the order of their handles."""
        ...


def random_mapping(request: MappingRequest) -> PolicyOfTrain:
    """Every train gets a random policy, each policy as many trains as any other.

    Trains that cannot be shared out evenly go to the policies whose turn it is.
    """
    if not request.mixed:
        return np.repeat(request.turns(1), request.n_trains)
    each, rest = divmod(request.n_trains, request.n_policies)
    policy_of_train = np.concatenate([np.tile(np.arange(request.n_policies), each), request.turns(rest)])
    return request.random.permutation(policy_of_train)


def round_robin(request: MappingRequest) -> PolicyOfTrain:
    """The policies in turn: train by train, on from where the last mapping ended, or env by env."""
    if not request.mixed:
        return shared(request)
    first = request.draw * request.n_trains
    return (first + np.arange(request.n_trains)) % request.n_policies


def by_handle(request: MappingRequest) -> PolicyOfTrain:
    """The trains in the order of their handles, cut into equal parts: the first part to policy 0, and so on."""
    return _equal_parts(np.arange(request.n_trains), request)


def by_speed(request: MappingRequest) -> PolicyOfTrain:
    """The trains in the order of their speeds, cut into equal parts: the slowest to policy 0, the fastest to the last.

    Trains of the same speed stand in the order of their handles.
    """
    speeds = request.state.max_speed / request.state.denominator
    return _equal_parts(np.argsort(speeds, kind="stable"), request)


def shared(request: MappingRequest) -> PolicyOfTrain:
    """All trains of an environment share one policy; the policies take turns."""
    return np.full(request.n_trains, request.draw % request.n_policies)


def synchronous(request: MappingRequest) -> PolicyOfTrain:
    """Environment e belongs to policy e modulo the number of policies, always."""
    return np.full(request.n_trains, request.environment % request.n_policies)


def _equal_parts(order: npt.NDArray[np.intp], request: MappingRequest) -> PolicyOfTrain:
    """Cuts trains into one part per policy; where they do not go up evenly, the larger parts move from draw to draw."""
    n_trains, n_policies = len(order), request.n_policies
    # over n_policies draws the part of each policy has n_trains trains in all
    ends = (np.arange(1, n_policies + 1) * n_trains + request.draw % n_policies) // n_policies
    policy_of_train = np.empty(n_trains, dtype=np.int64)
    policy_of_train[order] = np.searchsorted(ends, np.arange(n_trains), side="right")
    return policy_of_train


MAPPING_RULES: dict[str, MappingRule] = {
    "random": random_mapping,
    "round_robin": round_robin,
    "by_handle": by_handle,
    "by_speed": by_speed,
    "shared": shared,
}
NEEDS_MIXING = ("by_handle", "by_speed")


class PolicyMapping:
    """The policies of the trains of every training episode.

    Args:
        rule: names the policies of an episode's trains; with one policy it is not asked.
        name: what users call the rule.
        config: of the training.
        mixed: whether trains of one environment may have different policies.
    """

    def __init__(self, rule: MappingRule, name: str, config: TrainingConfig, *, mixed: bool) -> None:
        self.n_policies, self.mixed = config.num_policies, mixed
        self._rule, self._name, self._config = rule, name, config

    def policy_of_train(self, episode: int, state: RailState) -> PolicyOfTrain:
        """The policy of each train ``[trains]`` in an episode.

        Raises:
            ExtensionError: a user's rule fails, or gives something else than a policy for each train.
        """
        if self.n_policies == 1:
            return np.zeros(state.n_trains, dtype=np.int64)
        n_environments, seed = self._config.num_envs, self._config.seed
        environment = episode % n_environments
        draw = episode // (n_environments * self._config.resample_policies_every) * n_environments + environment
        request = MappingRequest(
            state,
            environment,
            episode,
            draw,
            self.n_policies,
            self.mixed,
            generator(seed, Stream.POLICY_MAPPING, draw),
            seed,
        )
        with extension_errors(f"the mapping {self._name!r} failed in episode {episode}"):
            given = self._rule(request)
        return self._checked(given, request)

    def _checked(self, given: npt.ArrayLike, request: MappingRequest) -> PolicyOfTrain:
        who = f"in episode {request.episode} the mapping {self._name!r}"
        policy_of_train = whole_numbers(given, request.n_trains, self.n_policies, who)
        if not self.mixed and len(np.unique(policy_of_train)) > 1:
            raise ExtensionError(
                f"{who} gave several policies in one environment, but --mix_policies_in_one_env is False: "
                "all trains must get the same."
            )
        return policy_of_train


def batched(n_environments: int) -> Callable[[MappingRequest], PolicyOfTrain]:
    """A rule: neighbouring environments form one group per policy; the groups change hands from draw to draw."""

    def rule(request: MappingRequest) -> PolicyOfTrain:
        group = request.environment * request.n_policies // n_environments
        turn = request.draw // n_environments
        return np.full(request.n_trains, (group + turn) % request.n_policies)

    return rule
