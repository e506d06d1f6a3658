"""What plays on flatland-rl 4.2.6, too: evaluation and submissions. It lies in a folder apart, see ``OLDER``."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from flatland.core.grid.grid4_utils import get_new_position
from flatland.envs.observations import Node, TreeObsForRailEnv
from flatland.envs.rail_env_action import RailEnvActions
from flatland.envs.rail_env_policy import RailEnvPolicy
from flatland.envs.rewards import ECML2026Rewards

from reinforcement_learning import evaluate_agent
from tests.helpers.grading import TIMEOUT, needs_redis
from tests.helpers.rail_envs import EAST, drawn_env
from tests.helpers.sampled_levels import describe, save_map
from utils.levels.env_configs import resolve_env_config
from utils.levels.rail_envs import make_rail_env
from utils.simulator.flatland_versions import CHOSEN_STOPS_COST, DelayRewards, reset_builder
from utils.simulator.reward_weights import weights_of
from utils.system.files import PROJECT_ROOT

OLDER = Path(sys.prefix) / "flatland-rl-4.2.6"
HERE = "tests.grading.test_older_flatland"
needs_older = pytest.mark.skipif(
    not OLDER.is_dir(), reason=f"pip install --no-deps --target {OLDER} flatland-rl==4.2.6"
)


class ForwardIfSeen(RailEnvPolicy):
    """Moves trains for which flatland's own observation builder has something to show."""

    observation_builder = TreeObsForRailEnv(max_depth=1)

    def act_many(self, handles: list[int], observations: list[Node | None]) -> dict[int, RailEnvActions]:
        """An action for each handle."""
        seen = [isinstance(observation, Node) for observation in observations]
        return {handle: RailEnvActions.from_value(2 if sees else 0) for handle, sees in zip(handles, seen, strict=True)}


def facts() -> list[object]:
    """The version that is installed, what a chosen stop costs at full speed, and what the kit takes for true."""
    env = drawn_env(["<---------->"], [(((0, 2), EAST), (0, 10))])
    env.rewards = ECML2026Rewards()
    for action in (2, 2, 2, 2):
        env.step({0: action})
    _, rewards, _, _ = env.step({0: 4})
    return [version("flatland-rl"), float(rewards[0]), CHOSEN_STOPS_COST, weights_of(DelayRewards()).tolist()]


def shared_positions() -> list[str]:
    """The types of the coordinates that flatland's cache of positions gives after levels have been made."""
    found = set()
    for name in ("Test_0", "ECML_small"):
        make_rail_env(resolve_env_config(name), 1)
        found |= {type(x).__name__ for cell in np.ndindex(40, 40) for d in range(4) for x in get_new_position(cell, d)}
    return sorted(found)


def level_of_each_kind(folder: Path) -> list[float]:
    """Scores of a rule on a level, saved unless it is there, on new levels on its map, and on generated ones."""
    if not (folder / "map.pkl").exists():
        save_map(folder)
        describe(folder, departure_delays={"interval": 3, "duration": [2, 5]})
    options = ["--policy", "least_detour", "-n", "2", "-e", str(folder / "map.pkl"), "-e", str(folder / "levels.json")]
    assert evaluate_agent.main([*options, "-e", "ECML_small", "--json", str(folder / "scores.json")]) == 0
    return [row["score_mean"] for row in json.loads((folder / "scores.json").read_text())]


def on_older(*command: str, **settings: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(OLDER), str(PROJECT_ROOT)])
    return subprocess.run(
        [sys.executable, *command],
        cwd=PROJECT_ROOT,
        env=os.environ | settings | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )


@needs_older
class TestOnOlder:
    def test_scores_are_the_same(self, tmp_path: Path) -> None:
        names = ("checkpoints/flatland_policy.pt", "least_detour", "ceiling", f"{HERE}:ForwardIfSeen")
        arguments = ["-e", "Tiny", "-n", "2", *(part for name in names for part in ("--policy", name))]
        done = on_older("reinforcement_learning/evaluate_agent.py", *arguments, "--json", str(tmp_path / "older"))
        assert done.returncode == 0, done.stderr
        with pytest.MonkeyPatch.context() as patched:
            patched.chdir(PROJECT_ROOT)
            assert evaluate_agent.main([*arguments, "--json", str(tmp_path / "newer")]) == 0
        older, newer = (json.loads((tmp_path / name).read_text()) for name in ("older", "newer"))
        assert [row["per_episode"] for row in older] == [row["per_episode"] for row in newer]

    @needs_redis
    def test_graders_of_that_version_play_the_submission(self, tmp_path: Path) -> None:
        arguments = ["--tests", str(tmp_path / "envs"), "-e", "Tiny", "-n", "1"]
        done = on_older("reinforcement_learning/grade_locally.py", *arguments, FLATLAND_PLAN_SECONDS="1")
        assert done.returncode == 0, done.stderr
        means = [line.split()[1:3] for line in done.stdout.splitlines() if line.startswith("mean")]
        assert means == [["1.000", "1.000"]] * 2

    def test_what_is_taken_for_true_there(self) -> None:
        done = on_older("-c", f"import json; from {HERE} import facts; print(json.dumps(facts()))")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1]) == ["4.2.6", -250.0, True, facts()[3]]

    def test_positions_of_one_map_do_no_harm_on_another(self) -> None:
        done = on_older("-c", f"import json; from {HERE} import shared_positions as p; print(json.dumps(p()))")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1]) == ["int"]

    def test_levels_with_stops_are_the_same(self, tmp_path: Path) -> None:
        call = f"level_of_each_kind(pathlib.Path({str(tmp_path)!r}))"
        done = on_older("-c", f"import json, pathlib; from {HERE} import level_of_each_kind; print(json.dumps({call}))")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1]) == level_of_each_kind(tmp_path)

    def test_training_says_what_it_needs(self) -> None:
        done = on_older("reinforcement_learning/multi_agent_training.py", "-t", "Tiny", "-e", "Tiny")
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert "training needs flatland-rl 4.3.0, but 4.2.6 is installed" in line


def test_what_is_taken_for_true_here() -> None:
    assert facts()[1:3] == [0.0, False]


class _Builder:
    """As users write them for 4.3.0."""

    env: object = None

    def reset(self, env: object) -> None:
        self.env = env


def test_builder_of_the_users_own_gets_the_environment() -> None:
    env, builder = drawn_env(["<---------->"], [(((0, 2), EAST), (0, 10))]), _Builder()
    reset_builder(builder, env)
    assert builder.env is env
