"""Helpers of the tests: networks and features as users write them, good ones and bad ones."""

import math
import sys
from typing import Any

import numpy as np
import torch
from flatland.envs.agent_utils import EnvAgent
from flatland.envs.rewards import DefaultRewards
from torch import Tensor, nn

from utils.observation.feature_sets import FeatureSet
from utils.simulator.rail_state import RailState

N_BIG = 7


class Linear(nn.Module):
    """As small as a network can be; it has buffers, and no method ``advantages``."""

    def __init__(self, feature_set: FeatureSet, n_actions: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.rand(feature_set.n_features))
        self.register_buffer("order", torch.arange(feature_set.n_features))
        self.layer = nn.Linear(feature_set.n_features, n_actions)

    def forward(self, observations: Tensor) -> Tensor:
        return self.layer(self.scale * observations[:, self.order])


class InAList(Linear):
    """Its first layer is in a plain list, where PyTorch does not find it."""

    def __init__(self, feature_set: FeatureSet, n_actions: int) -> None:
        super().__init__(feature_set, n_actions)
        self.layers = [nn.Linear(feature_set.n_features, feature_set.n_features)]

    def forward(self, observations: Tensor) -> Tensor:
        return super().forward(self.layers[0](observations))


class Wider(Linear):
    """Another network, whose weights do not fit into those of ``Linear``."""

    def __init__(self, feature_set: FeatureSet, n_actions: int) -> None:
        super().__init__(feature_set, n_actions)
        self.more = nn.Linear(n_actions, n_actions)

    def forward(self, observations: Tensor) -> Tensor:
        return self.more(super().forward(observations))


def sequential(*layers: nn.Module) -> Any:
    """What makes a network: a linear layer, and these behind it."""
    return lambda feature_set, n_actions: nn.Sequential(nn.Linear(feature_set.n_features, n_actions), *layers)


class LooksAtTwo(Linear):
    """Looks at neighbours."""

    n_neighbours = 2


class LooksAtTooMany(Linear):
    n_neighbours = 9


class LooksAtHalfATrain(Linear):
    n_neighbours = 0.5


class Mixes(Linear):
    def forward(self, observations: Tensor) -> Tensor:
        values = super().forward(observations)
        return values - values.mean(dim=0)


class Forgets(Linear):
    def forward(self, observations: Tensor) -> Tensor:
        return super().forward(observations).detach()


class Fails(Linear):
    def forward(self, observations: Tensor) -> Tensor:
        raise RuntimeError("no\nidea")


class NoNumbers(Linear):
    def forward(self, observations: Tensor) -> Tensor:
        return super().forward(observations) * torch.nan


class CannotLearn(Linear):
    """Its values are right, but not their gradients."""

    def forward(self, observations: Tensor) -> Tensor:
        values = super().forward(observations).sigmoid()
        values += 1.0
        return values


class Breaks(Linear):
    """Fails in one of the batches of a size, until a test mends it."""

    n_rows, calls_left = 0, math.inf

    def forward(self, observations: Tensor) -> Tensor:
        Breaks.calls_left -= len(observations) == Breaks.n_rows
        if Breaks.calls_left < 0:
            raise RuntimeError("no idea")
        return super().forward(observations)


class BreaksLater(Linear):
    """Fails after some learning steps, in whichever process that is."""

    n_calls = 0

    def forward(self, observations: Tensor) -> Tensor:
        BreaksLater.n_calls += torch.is_grad_enabled()
        if BreaksLater.n_calls > 30:
            raise RuntimeError("no idea")
        return super().forward(observations)


class BreaksElsewhere(Linear):
    """Fails where the kit plays but does not learn, in other processes too."""

    def forward(self, observations: Tensor) -> Tensor:
        if torch.is_inference_mode_enabled():
            return super().forward(observations)[0]
        return super().forward(observations)


class AdvantagesOfAnotherShape(Linear):
    def advantages(self, observations: Tensor) -> Tensor:
        return self(observations)[:, :2]


dropout = sequential(nn.Dropout(0.5))
batch_normalization = sequential(nn.BatchNorm1d(5))
too_few_actions = sequential(nn.Linear(5, 4))


def nothing(feature_set: FeatureSet, n_actions: int) -> None:
    return None


def without_parameters(feature_set: FeatureSet, n_actions: int) -> nn.Module:
    return nn.Identity()


def lazy(feature_set: FeatureSet, n_actions: int) -> nn.Module:
    return nn.LazyLinear(n_actions)


def in_double(feature_set: FeatureSet, n_actions: int) -> nn.Module:
    return nn.Linear(feature_set.n_features, n_actions).double()


def not_made(feature_set: FeatureSet) -> nn.Module:
    return nn.Identity()


class Handles:
    """Features that say who a train is."""

    name, version, n_features = "handles", 2, 2
    calls_left: float = math.inf  # then they break, until a test mends them

    def __call__(self, state: RailState) -> Any:
        Handles.calls_left -= 1
        numbers = np.stack([np.arange(state.n_trains), np.full(state.n_trains, N_BIG)], axis=1) / 10
        if Handles.calls_left < 0:
            numbers[0, 1] = np.nan
        return numbers


class Longer(Handles):
    n_features = 7


class Newer(Handles):
    version = 3


class Others(Handles):
    name = "others"


class Nameless(Handles):
    name = ""


class NoVersion(Handles):
    version = 1.5


class Empty(Handles):
    n_features = 0


class NaN(Handles):
    def __call__(self, state: RailState) -> Any:
        return np.full((state.n_trains, 2), np.nan)


class NoCall:
    name, version, n_features = "no", 1, 1


def leaves(*_: Any) -> Any:
    """What a user's code may do anywhere."""
    sys.exit("enough")


class LeavesWhenAsked(Handles):
    def __call__(self, state: RailState) -> Any:
        sys.exit(3)


def not_made_at_all() -> None:
    raise OSError("no file")


class KindRewards(DefaultRewards):
    """Rewards each step."""

    def step_reward(self, *args: Any, **kwargs: Any) -> float:
        return super().step_reward(*args, **kwargs) + 0.5


class RewardsOfNaN(DefaultRewards):
    """What it gives at the end of an episode is no number."""

    def end_of_episode_reward(self, *args: Any, **kwargs: Any) -> Any:
        return math.nan


class FailingRewards(DefaultRewards):
    def step_reward(self, *args: Any, **kwargs: Any) -> float:
        return sys.exit("enough")


class RewardsOfNaNLater(DefaultRewards):
    """They are numbers as long as no train has departed."""

    def step_reward(self, agent: EnvAgent, *args: Any, **kwargs: Any) -> float:
        return 0.0 if agent.state.is_off_map_state() else math.nan


class RewardsThatFailLater(DefaultRewards):
    def step_reward(self, agent: EnvAgent, *args: Any, **kwargs: Any) -> float:
        return 0.0 if agent.state.is_off_map_state() else sys.exit("enough")
