"""Rounds of play elsewhere: who drives which train does not depend on how many players share the levels."""

from typing import Any

import pytest

from reinforcement_learning.multi_policy.modes import make_mapping
from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.workers.broadcast import News
from reinforcement_learning.workers.round_player import RoundPlayer, RoundRequest, Task
from tests.helpers.tiny_training import SMALL, UNGUIDED
from utils.levels.env_configs import resolve_env_config
from utils.levels.level_streams import TrainingLevels
from utils.simulator.rail_state import RailState

N_TRAINS, N_EPISODES = 5, 12  # of Test_0


def make_config(**options: Any) -> TrainingConfig:
    several = {"training_env_config": "Test_0", "num_policies": 3, "num_envs": 3, "resample_policies_every": 1}
    return TrainingConfig(**{**SMALL, **UNGUIDED, **several, "seed": 5, **options})


@pytest.fixture(scope="module")
def states() -> list[RailState]:
    """The levels at their start."""
    config = make_config()
    levels = TrainingLevels(resolve_env_config(config.training_env_config), config.seed)
    return [RailState.from_env(levels.make(k)) for k in range(N_EPISODES)]


def policies_by_level(config: TrainingConfig, n_players: int) -> dict[int, list[int]]:
    """Plays all levels, each player every so-manieth of them."""
    found = {}
    for player in range(n_players):
        rounds = RoundPlayer(Task(config, N_TRAINS, 1 + player))
        levels = range(player, N_EPISODES, n_players)
        request = RoundRequest([(level, None) for level in levels], News())
        n_left = len(levels)
        while n_left:
            finished = rounds.play(request).finished
            request = RoundRequest([], News())
            found |= {episode.level_number: episode.result.policy_of_train.tolist() for episode in finished}
            n_left -= len(finished)
    return found


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mix_policies_in_one_env": False},
        {"policy_mapping": "round_robin"},
        {"policy_mapping": "by_handle"},
        {"policy_mapping": "by_speed"},
        {"policy_mapping": "shared"},
        {"policy_mode": "synchronous"},
        {"policy_mode": "batched"},
    ],
    ids=lambda options: "_".join(map(str, options.values())) or "random",
)
def test_mapping_is_the_same_for_any_number_of_players(states: list[RailState], options: dict[str, Any]) -> None:
    config = make_config(**options)
    mapping = make_mapping(config)
    wanted = {k: mapping.policy_of_train(k, state).tolist() for k, state in enumerate(states)}
    assert policies_by_level(config, 1) == policies_by_level(config, 3) == wanted
    assert len({tuple(policy_of_train) for policy_of_train in wanted.values()}) > 1
