"""evaluate_agent.py --rewards: scores as graders count them, and what was lost to what."""

from pathlib import Path

import numpy as np
import pytest
from flatland.envs.persistence import RailEnvPersister
from flatland.envs.rewards import ECML2026Rewards

from reinforcement_learning.evaluate_agent import main
from tests.helpers.rail_envs import sparse_env
from tests.scoring.test_evaluate_agent import TINY, scored
from utils.levels.rail_envs import make_rail_env
from utils.levels.saved_levels import SavedEnv


@pytest.fixture(scope="module")
def stops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved environment whose trains have stops to serve."""
    path = tmp_path_factory.mktemp("saved") / "stops.pkl"
    RailEnvPersister.save(sparse_env(1, n_agents=6, n_cities=3, line_length=3), str(path))
    return path


def test_scores_are_those_of_graders(stops: Path, tmp_path: Path) -> None:
    """Forward-only trains collide until they have lost more than counts."""
    (row,) = scored(tmp_path, "--policy", "forward", "-e", str(stops), "-n", "2", "--rewards", "ecml2026")
    unclipped = []
    for episode in row["per_episode"]:
        env = make_rail_env(SavedEnv(stops, ECML2026Rewards), episode["seed"])
        given, over = [], False
        while not over:
            _, rewards, dones, _ = env.step(dict.fromkeys(range(6), 2))
            given += [rewards[handle] for handle in range(6)]
            over = dones["__all__"]
        n_steps = env._max_episode_steps
        assert 1 + episode["score"] == pytest.approx(
            env.rewards.normalize(*given, num_agents=6, max_episode_steps=n_steps)
        )
        assert sum(episode["losses"].values()) == pytest.approx(-episode["score"])
        unclipped.append(1 + sum(given) / (6 * n_steps))
    assert 1 + row["score_mean"] > np.mean(unclipped)  # something was clipped


def test_for_a_rule_rewards_change_nothing_but_the_score(tmp_path: Path) -> None:
    arguments = ["--policy", "least_detour", "--policy", "ceiling", *TINY]
    rows = [scored(tmp_path, *arguments, "--rewards", name) for name in ("default", "ecml2026", "delay")]
    for of_policy in zip(*rows, strict=True):
        assert len({row["completion_mean"] for row in of_policy}) == 1
        for row in of_policy:
            assert sum(row["losses_mean"].values()) == pytest.approx(-row["score_mean"])


def test_the_table_tells_apart_what_was_lost(stops: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--policy", "do_nothing", "--policy", "shortest_path", "-n", "2"]
    assert main([*arguments, "-e", str(stops), "--rewards", "ecml2026"]) == 0
    lines = capsys.readouterr().out.splitlines()
    heading = next(number for number, line in enumerate(lines) if line.startswith("lost to"))
    nothing_done = [float(cell) for cell in lines[heading + 1].split()[1:]]
    late, not_arrived, cancelled, no_stop, *others = nothing_done
    assert cancelled > 0
    assert no_stop > 0
    assert [late, not_arrived, *others] == [0.0] * 5
    assert sum(nothing_done) == pytest.approx(-float(lines[2].split()[1]), abs=0.004)
    assert main([*arguments, "-e", "Tiny"]) == 0
    assert "lost to" not in capsys.readouterr().out


def test_of_ones_own(tmp_path: Path) -> None:
    arguments = ["--policy", "shortest_path", *TINY, "--rewards", "tests.helpers.own_code:KindRewards"]
    (row,) = scored(tmp_path, *arguments)
    assert scored(tmp_path, *arguments, "--num_workers", "2") == [row]
    (under_default,) = scored(tmp_path, *arguments[:-2])
    assert row["score_mean"] > under_default["score_mean"]
    assert row["losses_mean"] == {}
