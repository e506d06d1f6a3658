"""Folders of environments as Flatland's graders want them: ``Test_XX/Level_Y.pkl`` and a ``metadata.csv``."""

import csv
from collections.abc import Sequence
from pathlib import Path

from flatland.envs.persistence import RailEnvPersister

from utils.levels.env_configs import EnvConfig
from utils.levels.rail_envs import make_rail_env

METADATA = "metadata.csv"


def write_tests(folder: Path, configs: Sequence[EnvConfig], n_levels: int) -> list[Path]:
    """Makes a test of each configuration; the seeds of levels begin at 0 and go on from test to test.

    Returns:
        The environments, in the order in which they are graded.

    Raises:
        OSError: a file cannot be written.
    """
    rows: list[dict[str, object]] = []
    paths = []
    for test, config in enumerate(configs):
        for level in range(n_levels):
            seed = len(rows)
            path = folder / f"Test_{test:02}" / f"Level_{level}.pkl"
            path.parent.mkdir(parents=True, exist_ok=True)
            RailEnvPersister.save(make_rail_env(config, seed), str(path))
            paths.append(path)
            rows.append({"test_id": path.parent.name, "env_id": path.stem, **_description(config, n_levels, seed)})
    with (folder / METADATA).open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return paths


def _description(config: EnvConfig, n_levels: int, seed: int) -> dict[str, object]:
    return {
        "n_agents": config.n_agents,
        "x_dim": config.width,
        "y_dim": config.height,
        "n_cities": config.n_cities,
        "max_rail_pairs_in_city": config.max_rail_pairs_in_city,
        "n_envs_run": n_levels,
        "seed": seed,
        "grid_mode": config.grid_mode,
        "max_rails_between_cities": config.max_rails_between_cities,
        "malfunction_duration_min": config.malfunction_min_duration,
        "malfunction_duration_max": config.malfunction_max_duration,
        "malfunction_interval": round(1 / config.malfunction_rate) if config.malfunction_rate else 0,
        "speed_ratios": dict(config.speed_ratios) or {1.0: 1.0},
    }
