"""A training on new levels of a map, and on a folder of saved ones, whose levels differ in their number of trains."""

import json
from pathlib import Path

import pytest
from flatland.envs.persistence import RailEnvPersister

from reinforcement_learning.multi_agent_training import main
from tests.helpers.sampled_levels import describe, save_map
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env


def train(folder: Path, *options: str) -> list[dict[str, float]]:
    """Runs a training; the lines of its metrics that tell of an evaluation."""
    names = ("checkpoint_dir", "output_dir", "replay_buffer_dir")
    quiet = ["--wandb", "False", "--tensorboard", "False", "--learning_curve", "False", "--cross_play", "False"]
    small = ["--buffer_min_size", "64", "--num_envs", "2", "--n_evaluation_episodes", "1", "--run_name", "run"]
    folders = [f"--{name}={folder / name}" for name in names]
    assert main([*options, *quiet, *small, *folders]) == 0
    lines = map(json.loads, (folder / "output_dir" / "run" / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if "evaluation/nb_episodes" in line]


@pytest.fixture
def map_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    save_map(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_new_levels_on_a_map(map_folder: Path) -> None:
    describe(map_folder, departure_delays={"interval": 5, "duration": [2, 5]})
    levels = ["-t", "levels.json", "-e", "levels.json", "--rewards", "ecml2026"]
    _, evaluation = train(map_folder, "-n", "3", *levels)
    assert evaluation["evaluation/nb_episodes"] == 1


def test_folder_of_levels_each_is_evaluated(map_folder: Path) -> None:
    folder = map_folder / "levels"
    folder.mkdir()
    for name in ("Tiny", "Test_0", "Tiny"):
        RailEnvPersister.save(make_rail_env(ENV_CONFIGS[name], 1), folder / f"{len(list(folder.iterdir()))}.pkl")
    _, evaluation = train(map_folder, "-n", "4", "-t", "levels", "-e", "levels/*.pkl")
    assert evaluation["evaluation/nb_episodes"] == 3
