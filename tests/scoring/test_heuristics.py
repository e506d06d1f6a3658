"""Rules do what their names say."""

import sys

import numpy as np
import pytest

from reinforcement_learning.playing.episode_result import EpisodeResult
from reinforcement_learning.scoring.heuristics import RULES, MissingPackageError, make_anew
from reinforcement_learning.scoring.play_by_rule import play_by_rule
from tests.helpers.rail_envs import sparse_env
from utils.simulator.simulator import FlatlandSimulator


def play(name: str, seed: int = 3, n_trains: int = 5) -> EpisodeResult:
    return play_by_rule(FlatlandSimulator(sparse_env(seed, n_agents=n_trains)), make_anew(RULES[name], seed))


def test_random_takes_all_actions_alike_and_follows_its_seed() -> None:
    simulator = FlatlandSimulator(sparse_env(1, n_agents=5))
    actions = []
    for seed in (1, 1, 2):
        rule = make_anew(RULES["random"], seed)
        actions.append([rule.act(simulator).tolist() for _ in range(400)])
    assert actions[0] == actions[1] != actions[2]
    assert np.bincount(np.ravel(actions[0]), minlength=5) == pytest.approx([400] * 5, rel=0.2)


def test_do_nothing_never_departs() -> None:
    result = play("do_nothing")
    assert (result.never_departed, result.completion) == (1.0, 0.0)


def test_forward_goes_nowhere_else() -> None:
    result = play("forward")
    assert result.action_counts.tolist() == [0, 0, 5 * result.n_steps, 0, 0]
    assert result.never_departed == 0.0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_lonely_train_on_its_shortest_path_arrives(seed: int) -> None:
    assert play("shortest_path", seed, n_trains=1).completion == 1.0


def test_least_detour_gets_more_trains_home_than_shortest_paths_and_none_into_a_deadlock() -> None:
    played = {name: [play(name, seed, 10) for seed in range(4)] for name in ("least_detour", "shortest_path")}
    home = {name: sum(result.completion for result in results) for name, results in played.items()}
    assert home["least_detour"] > home["shortest_path"]
    assert sum(result.deadlocked for result in played["shortest_path"]) > 0.5
    assert sum(result.deadlocked for result in played["least_detour"]) < 0.1


def test_deadlock_avoidance_gets_more_trains_home_than_shortest_paths() -> None:
    pytest.importorskip("flatland_baselines", reason="the package flatland-baselines is not installed")
    played = {name: [play(name, seed).completion for seed in range(4)] for name in ("dla", "shortest_path")}
    assert sum(played["dla"]) > sum(played["shortest_path"])


def test_deadlock_avoidance_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flatland_baselines.deadlock_avoidance_heuristic.policy", None)
    monkeypatch.delitem(
        sys.modules, "flatland_baselines.deadlock_avoidance_heuristic.policy.deadlock_avoidance_policy", raising=False
    )
    with pytest.raises(MissingPackageError, match="pip install flatland-baselines"):
        make_anew(RULES["dla"], 0)
