"""Helpers of the tests: saved maps with stations, and files that describe new levels on them."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from flatland.core.grid.grid4 import Grid4TransitionsEnum
from flatland.envs.persistence import RailEnvPersister
from flatland.envs.rail_env import RailEnv

from utils.levels.env_configs import SAMPLED_ENVS
from utils.levels.rail_envs import make_rail_env
from utils.levels.sampled_envs import GeneratedMap

SMALL = SAMPLED_ENVS["ECML_small"]
TRAINS = {"trains": [3, 6]}


def save_map(folder: Path, seed: int = 0) -> RailEnv:
    """Writes ``map.pkl`` and its ``stations.pkl``: the first half of the stations is in scene west, all are in all."""
    env = make_rail_env(SMALL, seed)
    RailEnvPersister.save(env, folder / "map.pkl")
    assert isinstance(SMALL.map, GeneratedMap)
    env._seed(seed)
    network = SMALL.map.generate(env.np_random).network  # the first that the level has drawn
    stations = [sorted({network.places[place][:2] for track in tracks for place in track}) for tracks in network.tracks]
    content = {
        "train_stations": [[(cell, number) for number, cell in enumerate(cells)] for cells in stations],
        "city_positions": [np.array(cells[0]) for cells in stations],
        "city_orientations": [Grid4TransitionsEnum.NORTH for _ in stations],
        "scenes_with_station": [["west", "all"] if i < len(stations) // 2 else ["all"] for i in range(len(stations))],
        "level_free_positions": {(1, 2)},
    }
    (folder / "stations.pkl").write_bytes(pickle.dumps(content))
    return env


def describe(folder: Path, **values: Any) -> Path:
    """Writes ``levels.json``; a value of None leaves its key out."""
    content = {"map": "map.pkl", "stations": "stations.pkl", **TRAINS, **values}
    path = folder / "levels.json"
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))
    return path
