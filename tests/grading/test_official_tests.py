"""Folders of tests are read by flatland-rl's evaluator (see test_run.py) and hold the levels that they name."""

import csv
from pathlib import Path

import numpy as np

from reinforcement_learning.grading.official_tests import METADATA, write_tests
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.levels.saved_levels import SavedEnv


def test_levels_are_those_of_their_seeds(tmp_path: Path) -> None:
    names = ("Tiny", "Round2_Test_01", "Benchmarks_Test_01")
    paths = write_tests(tmp_path / "made", [ENV_CONFIGS[name] for name in names], n_levels=2)
    with (tmp_path / "made" / METADATA).open() as file:
        rows = list(csv.DictReader(file))
    assert [f"{row['test_id']}/{row['env_id']}.pkl" for row in rows] == [
        str(path.relative_to(tmp_path / "made")) for path in paths
    ]
    assert [row["seed"] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    assert [row["malfunction_interval"] for row in rows] == ["0", "0", "900", "900", "540", "540"]
    for path, row, name in zip(paths, rows, np.repeat(names, 2), strict=True):
        saved, made = make_rail_env(SavedEnv(path), 0), make_rail_env(ENV_CONFIGS[name], int(row["seed"]))
        assert np.array_equal(saved.rail.grid, made.rail.grid)
        assert [a.initial_configuration for a in saved.agents] == [a.initial_configuration for a in made.agents]
        assert len(saved.agents) == int(row["n_agents"])
        assert saved.rail.grid.shape == (int(row["y_dim"]), int(row["x_dim"]))
