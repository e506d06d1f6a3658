"""Stations of a map: the tracks at which trains start, stop and end, and the scenes that a station belongs to."""

import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utils.levels.saved_levels import EnvConfigError
from utils.system.files import why_unreadable

Cell = tuple[int, int]

_SAME_STATION = 2  # cells: parallel tracks of a station lie so close together, also where one is left out


@dataclass(frozen=True)
class Stations:
    """The stations of a map."""

    cells: tuple[tuple[Cell, ...], ...]  # of each station, row and column, one for each of its tracks
    # of each station, what parts of the map it belongs to; empty where nothing is said of that
    scenes: tuple[frozenset[str], ...] = ()

    @classmethod
    def from_hints(cls, hints: Mapping[str, Any]) -> "Stations":
        """Stations as flatland's rail generators tell them.

        Raises:
            LookupError, TypeError, ValueError: it is something else.
        """
        cells = tuple(
            tuple((int(row), int(column)) for (row, column), _ in tracks) for tracks in hints["train_stations"]
        )
        scenes = tuple(frozenset(map(str, names)) for names in hints.get("scenes_with_station", ()))
        if scenes and len(scenes) != len(cells):
            raise ValueError("there must be scenes for each station")
        return cls(cells, scenes)

    @classmethod
    def from_trains(cls, trains: Iterable[Any]) -> "Stations":
        """Stations where the trains of a saved level start, stop and end: cells close to each other are one."""
        stops = [stop for train in trains for stop in getattr(train, "waypoints", ())]
        # older versions of flatland saved a single place instead of a list
        places = [place for stop in stops for place in ([stop] if hasattr(stop, "position") else stop)]
        cells = {(int(place.position[0]), int(place.position[1])) for place in places}
        stations: list[list[Cell]] = []
        for row, column in sorted(cells):
            near = [s for s in stations if any(max(abs(row - r), abs(column - c)) <= _SAME_STATION for r, c in s)]
            stations = [station for station in stations if station not in near]
            stations.append(sorted([(row, column), *(cell for station in near for cell in station)]))
        return cls(tuple(map(tuple, sorted(stations))))

    def of_scene(self, scene: str) -> "Stations":
        """The stations that belong to a scene.

        Raises:
            EnvConfigError: there is no such scene; the message names those that there are.
        """
        known = sorted(frozenset().union(*self.scenes))
        if scene not in known:
            there_are = f"they know {', '.join(known)}" if known else "they know no scenes"
            raise EnvConfigError(f"the stations do not know the scene {scene!r}: {there_are}")
        cells = (cells for cells, scenes in zip(self.cells, self.scenes, strict=True) if scene in scenes)
        return Stations(tuple(cells))


def read_stations(path: Path) -> Stations:
    """The stations of a file such as the ``stations.pkl`` of the ECML 2026 competition.

    It is a pickled dictionary with ``train_stations`` and, if it tells of scenes, ``scenes_with_station``. Nothing in
    it is run: it is read with plain containers, numbers, texts and numpy arrays only.

    Raises:
        EnvConfigError: the file cannot be read, or holds no stations.
    """
    if why := why_unreadable(path):
        raise EnvConfigError(f"the file of stations {str(path)!r} {why}")
    try:
        with path.open("rb") as file:
            return Stations.from_hints(_PlainUnpickler(file).load())
    except OSError as error:
        raise EnvConfigError(f"the file of stations {str(path)!r} cannot be read ({error.strerror})") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise EnvConfigError(
            f"the file {str(path)!r} holds no stations: it must be a pickled dictionary with train_stations, made of "
            "plain containers, numbers, texts and numpy arrays"
        ) from error


def holds_stations(path: Path) -> bool:
    """Whether a file is one that ``read_stations`` reads."""
    try:
        read_stations(path)
    except EnvConfigError:
        return False
    return True


def _bytes_of(text: str, encoding: str) -> bytes:
    """How pickles before protocol 3 hold bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes are not encoded as {encoding}")
    return text.encode("latin1")


class _PlainUnpickler(pickle.Unpickler):
    """Reads plain data; a pickle can name any code of the machine, and here nothing but this is found."""

    _FOUND = {  # noqa: RUF012
        ("builtins", "set"): set,
        ("builtins", "frozenset"): frozenset,
        ("_codecs", "encode"): _bytes_of,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "_reconstruct"): vars(np.core.multiarray)["_reconstruct"],
        ("numpy.core.multiarray", "scalar"): vars(np.core.multiarray)["scalar"],
        ("numpy.core.numeric", "_frombuffer"): vars(np.core.numeric)["_frombuffer"],
        ("flatland.core.grid.grid4", "Grid4TransitionsEnum"): int,  # directions
    }

    def find_class(self, module: str, name: str) -> Any:
        """What a name in the pickle stands for."""
        # Python 2 and numpy 2 have other names for some
        module = {"__builtin__": "builtins"}.get(module, module.replace("numpy._core.", "numpy.core."))
        if (module, name) not in self._FOUND:
            raise pickle.UnpicklingError(f"{module}.{name} is not plain data")
        return self._FOUND[module, name]
