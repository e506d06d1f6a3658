"""Planning, which also plays where there is no compiled simulator, weighs rewards as that does."""

import pytest
from flatland.envs.rewards import Rewards

from reinforcement_learning.settings.named_rewards import REWARDS
from utils.simulator import compiled_simulator
from utils.simulator.reward_weights import weights_of


@pytest.mark.parametrize("rewards", REWARDS.values(), ids=REWARDS)
def test_weights_are_those_of_the_compiled_simulator(rewards: type[Rewards]) -> None:
    assert weights_of(rewards()).tolist() == compiled_simulator.weights_of(rewards()).tolist()
