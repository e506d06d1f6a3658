"""Rules and policies of a user's own, found by name, score as what they are."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import run
from reinforcement_learning.evaluate_agent import main

TINY = ["-e", "Tiny", "-n", "3"]
DLA = "flatland_baselines.deadlock_avoidance_heuristic.policy.deadlock_avoidance_policy:DeadLockAvoidancePolicy"
MODULE = """
import numpy as np
from flatland.core.env_observation_builder import ObservationBuilder
from flatland.envs.rail_env_action import RailEnvActions
from flatland.envs.rail_env_policy import RailEnvPolicy
from utils.observation.feature_sets import get_feature_set
from utils.observation.route_features import least_detour_actions
from utils.rules.shortest_path import shortest_path_actions

class Shortest:
    def act(self, simulator):
        return shortest_path_actions(simulator.state)

class Random:
    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
    def act(self, simulator):
        return self.random.integers(5, size=simulator.state.n_trains).tolist()

class LeastDetour:
    def act(self, observations, action_mask, epsilon):
        return least_detour_actions(observations[:, get_feature_set("tree_routes").route_features], action_mask)

class Steps(ObservationBuilder):
    def reset(self, env):
        super().reset(env)
        self.handles = []
    def get(self, handle=0):
        self.handles.append(handle)
        return handle, self.env._elapsed_steps, len(self.handles) // self.env.get_num_agents()

class Forward(RailEnvPolicy):
    observation_builder = Steps
    def act(self, observation, **kwargs):
        handle, elapsed_steps, seen = observation
        assert seen in (elapsed_steps, elapsed_steps + 1)
        return RailEnvActions.MOVE_FORWARD

class Idle(RailEnvPolicy):
    observation_builder = Steps()
    def act_many(self, handles, observations, **kwargs):
        assert [handle for handle, *_ in observations] == handles
        return {}

class Late:
    def act(self, simulator):
        if simulator.state.elapsed_steps == 2:
            return [7] * simulator.state.n_trains
        return [0] * simulator.state.n_trains

class Words:
    def act(self, simulator):
        return ["go"] * simulator.state.n_trains

class TooMany:
    def act(self, simulator):
        return [0] * (simulator.state.n_trains + 1)

class Impossible:
    def act(self, observations, action_mask, epsilon):
        return action_mask.argmin(axis=1)

class Scalar:
    def act(self, observations, action_mask, epsilon):
        return 2

class Breaks:
    def act(self, simulator):
        return simulator.nothing

class NeedsMore:
    def __init__(self, weights):
        pass

class Unknown:
    def go(self):
        pass

class Elsewhere:
    feature_set = "forest"
    def act(self, observations, action_mask, epsilon):
        return action_mask.argmax(axis=1)

NUMBER = 3
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)


def episodes(*arguments: str) -> list[Any]:
    """What each policy reached, episode by episode."""
    assert main([*arguments, "--json", "results.json"]) == 0
    return [row["per_episode"] for row in json.loads(Path("results.json").read_text())]


@pytest.mark.parametrize(
    ("own", "on_board"),
    [
        ("mine:Shortest", "shortest_path"),
        ("mine:Random", "random"),
        ("mine:LeastDetour", "least_detour"),
        ("mine:Forward", "forward"),
        ("mine:Idle", "do_nothing"),
        (DLA, "dla"),
    ],
)
def test_plays_as_the_same_rule_on_board(own: str, on_board: str) -> None:
    first, second = episodes("--policy", own, "--policy", on_board, *TINY)
    assert first == second


def test_workers_planning_and_film(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--policy", "mine:Random", "--policy", "mine:Forward", *TINY]
    alone = episodes(*arguments)
    assert episodes(*arguments, "--num_workers", "2", "--plan_seconds", "1", "--render", "film.png") == alone
    assert Path("film.png").stat().st_size > 1000
    assert "mine:Random" in capsys.readouterr().out


WRONG = [
    ("nowhere:Rule", "ModuleNotFoundError"),
    ("mine:Missing", "AttributeError"),
    ("mine:NUMBER", "is a int"),
    ("mine:NeedsMore", "cannot be made"),
    ("mine:Unknown", "act_many(handles, observations)"),
    ("mine:Elsewhere", "forest"),
    ("mine:Words", "['go', 'go']"),
    ("mine:TooMany", "gave 3 numbers"),
    ("mine:Scalar", "gave 2,"),
    ("mine:Impossible", "its mask leaves only"),
    ("mine:Breaks", "; mine.py, line "),
]


@pytest.mark.parametrize(("name", "words"), WRONG)
def test_mistakes_are_told_before_anything_is_played(name: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--policy", name, *TINY]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert words in err
    assert name in err
    assert run.main(["--policy", name]) == 2
    assert capsys.readouterr().err == err.replace("evaluate_agent.py", "run.py")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_mistakes_in_play_end_in_a_sentence_and_2(workers: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--policy", "mine:Late", *TINY, "--num_workers", workers]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "gave 7, but must give a whole number from 0 to 4 for each of 2 trains" in err


def test_run_takes_either_a_checkpoint_or_a_policy(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        run.main(["--policy", "random", "--checkpoint", "any.pt"])
    assert exit_info.value.code == 2
    assert run.main(["--policy", "random", "--plan_seconds", "1"]) == 2
    assert run.main(["--policy", "ceiling"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 3
    assert "leave it out with --policy" in err
    assert "shortest_path" in err
