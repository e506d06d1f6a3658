"""Folders of environments as Flatland's graders want them: ``Test_XX/Level_Y.pkl`` and a ``metadata.csv``."""

import csv
from collections.abc import Sequence
from pathlib import Path

from flatland.envs.persistence import RailEnvPersister

from utils.levels.env_configs import EnvConfig
from utils.levels.rail_envs import make_rail_env

METADATA = "metadata.csv"
_COLUMNS = (
    "test_id",
    "env_id",
    "n_agents",
    "x_dim",
    "y_dim",
    "n_cities",
    "max_rail_pairs_in_city",
    "n_envs_run",
    "seed",
    "grid_mode",
    "max_rails_between_cities",
    "malfunction_duration_min",
    "malfunction_duration_max",
    "malfunction_interval",
    "speed_ratios",
)


def write_tests(folder: Path, configs: Sequence[EnvConfig], n_levels: int) -> list[Path]:
    """Makes a test of each configuration; the seeds of levels begin at 0 and go on from test to test.

    Returns:
        The environments, in the order in which they are graded.

    Raises:
        OSError: a file cannot be written.
    """
    rows: list[tuple[object, ...]] = []
    paths = []
    for test, config in enumerate(configs):
        for level in range(n_levels):
            seed = len(rows)
            path = folder / f"Test_{test:02}" / f"Level_{level}.pkl"
            path.parent.mkdir(parents=True, exist_ok=True)
            RailEnvPersister.save(make_rail_env(config, seed), str(path))
            paths.append(path)
            rows.append((path.parent.name, path.stem, *_description(config, n_levels, seed)))
    with (folder / METADATA).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows(rows)
    return paths


def _description(config: EnvConfig, n_levels: int, seed: int) -> tuple[object, ...]:
    return (
        config.n_agents,
        config.width,
        config.height,
        config.n_cities,
        config.max_rail_pairs_in_city,
        n_levels,
        seed,
        config.grid_mode,
        config.max_rails_between_cities,
        config.malfunction_min_duration,
        config.malfunction_max_duration,
        round(1 / config.malfunction_rate) if config.malfunction_rate else 0,
        dict(config.speed_ratios) or {1.0: 1.0},
    )
