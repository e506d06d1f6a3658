"""Stations: read without running anything, or found where trains start, stop and end."""

import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flatland.core.grid.grid4 import Grid4TransitionsEnum

from utils.levels.saved_levels import EnvConfigError
from utils.levels.stations import Stations, holds_stations, read_stations

TRACKS = [[((1, 2), 0), ((1, 3), 1)], [((7, 8), 0)]]


def write(path: Path, content: Any) -> Path:
    path.write_bytes(pickle.dumps(content))
    return path


class TestReading:
    @pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
    def test_of_the_competitions_form(self, tmp_path: Path, protocol: int) -> None:
        content = {
            "city_positions": [np.array([1, 2]), (np.int64(7), np.int64(8))],
            "city_orientations": [Grid4TransitionsEnum.EAST, Grid4TransitionsEnum.NORTH],
            "train_stations": [[((np.int64(1), np.int64(2)), 0), ((1, 3), 1)], [((7, 8), 0)]],
            "scenes_with_station": [["scene_1", "scene_2"], ["scene_2"]],
            "level_free_positions": {(4, 4)},
        }
        path = tmp_path / "stations.pkl"
        path.write_bytes(pickle.dumps(content, protocol))
        stations = read_stations(path)
        assert stations.cells == (((1, 2), (1, 3)), ((7, 8),))
        assert stations.scenes == ({"scene_1", "scene_2"}, {"scene_2"})

    def test_without_scenes(self, tmp_path: Path) -> None:
        assert read_stations(write(tmp_path / "s.pkl", {"train_stations": TRACKS})).scenes == ()

    def test_runs_nothing(self, tmp_path: Path) -> None:
        class Harm:
            def __reduce__(self) -> tuple[Any, ...]:
                return os.mkdir, (str(tmp_path / "harm"),)

        path = write(tmp_path / "s.pkl", {"train_stations": TRACKS, "more": Harm()})
        with pytest.raises(EnvConfigError, match="plain containers"):
            read_stations(path)
        assert not (tmp_path / "harm").exists()

    @pytest.mark.parametrize(
        "content",
        [
            [],
            {"grid": [[0]]},
            {"train_stations": [[(1, 2)]]},
            {"train_stations": 3},
            {"train_stations": TRACKS, "scenes_with_station": [["a"]]},
        ],
    )
    def test_something_else(self, tmp_path: Path, content: Any) -> None:
        path = write(tmp_path / "s.pkl", content)
        with pytest.raises(EnvConfigError, match=r"s\.pkl' holds no stations") as refused:
            read_stations(path)
        assert "\n" not in str(refused.value)
        assert not holds_stations(path)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(EnvConfigError, match=r"s\.pkl' does not exist"):
            read_stations(tmp_path / "s.pkl")


class TestScenes:
    STATIONS = Stations((((1, 2),), ((7, 8),)), (frozenset({"a", "b"}), frozenset({"b"})))

    def test_only_their_stations(self) -> None:
        assert self.STATIONS.of_scene("a").cells == (((1, 2),),)
        assert self.STATIONS.of_scene("b").cells == self.STATIONS.cells

    def test_unknown(self) -> None:
        with pytest.raises(EnvConfigError, match="do not know the scene 'c': they know a, b"):
            self.STATIONS.of_scene("c")
        with pytest.raises(EnvConfigError, match="they know no scenes"):
            Stations(self.STATIONS.cells).of_scene("a")


def test_found_where_trains_stop() -> None:
    def at(*position: int) -> SimpleNamespace:
        return SimpleNamespace(position=position)

    trains = [
        SimpleNamespace(waypoints=[[at(1, 2)], [at(9, 9), at(9, 11)], [at(5, 5), at(5, 5)]]),
        SimpleNamespace(waypoints=[at(1, 6), [at(1, 4)]]),  # older versions saved a single place as such
        SimpleNamespace(),
    ]
    assert Stations.from_trains(trains).cells == (((1, 2), (1, 4), (1, 6)), ((5, 5),), ((9, 9), (9, 11)))
