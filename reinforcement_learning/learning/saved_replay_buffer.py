"""The file of a saved replay buffer: plain arrays (.npz), of which nothing is used before all of it is checked."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reinforcement_learning.playing.episode_rows import LOST, NOT_SHOWN, layout_of
from utils.observation.feature_sets import FeatureSet
from utils.simulator.rail_grid import N_ACTIONS
from utils.system.files import atomic_write, why_unreadable

BUFFER_FORMAT = 3

Rows = Mapping[str, npt.NDArray[Any]]
_NUMBERS = ("format_version", "feature_set_version", "capacity", "n_added", "n_rows_added")
_NEIGHBOURS = "n_neighbours"  # where there are any
_TEXTS = ("feature_set", "more_features")


class ReplayBufferError(ValueError):
    """A saved replay buffer cannot be used; the message is one sentence."""


@dataclass(frozen=True)
class SavedReplayBuffer:
    """What is in a file, checked."""

    capacity: int  # of the buffer that was saved
    n_added: int  # transitions, over the whole life of that buffer
    n_rows_added: int  # the same of rows; the place of the next one was n_rows_added % capacity
    rows: Rows  # field by field, in the order of their places

    @property
    def oldest(self) -> int:
        """The place of the oldest row."""
        return self.n_rows_added % self.capacity if self.n_rows_added > self.capacity else 0


def write_saved(path: str | Path, feature_set: FeatureSet, saved: SavedReplayBuffer) -> None:
    """Writes plain arrays in one atomic step.

    Raises:
        OSError: the file cannot be written; one that was there before is unharmed.
    """
    header = {
        "format_version": BUFFER_FORMAT,
        "feature_set": feature_set.name,
        "feature_set_version": feature_set.version,
        "capacity": saved.capacity,
        "n_added": saved.n_added,
        "n_rows_added": saved.n_rows_added,
    }
    if feature_set.n_neighbours:
        header[_NEIGHBOURS] = feature_set.n_neighbours
    if more := feature_set.more:
        header["more_features"] = f"{more.name} version {more.version}"
    # what np.savez does, which on a full disk would leave its archive open to complain later
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, value in (header | dict(saved.rows)).items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asarray(value), allow_pickle=False)


def read_saved(path: Path, feature_set: FeatureSet) -> SavedReplayBuffer:
    """What is in a file.

    Raises:
        ReplayBufferError: it is missing, damaged, or holds other observations than those of ``feature_set``.
    """
    if why := why_unreadable(path):
        raise ReplayBufferError(f"{path} {why}; give a replay buffer (.npz) that was saved before.")
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(path, archive, feature_set)
    except ReplayBufferError:
        raise
    # A damaged file can raise anything. numpy's own words are left out: for a pickle they say how to open it unsafely.
    except Exception as error:
        raise ReplayBufferError(f"{path} is not a saved replay buffer, or is damaged.") from error


def _read(path: Path, archive: zipfile.ZipFile, feature_set: FeatureSet) -> SavedReplayBuffer:
    entries = archive.infolist()
    # what is saved is not compressed: then a file cannot hold more than its own size
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ReplayBufferError(f"{path} is compressed, but must be as it was saved.")
    names = {entry.filename.removesuffix(".npy") for entry in entries}
    header = {name: _entry(archive, name) for name in (*_NUMBERS, _NEIGHBOURS, *_TEXTS) if name in names}
    for name, value in header.items():
        if value.ndim != 0 or value.dtype.kind not in ("U" if name in _TEXTS else "iu"):
            raise ReplayBufferError(f"{path} is not a saved replay buffer: {name} is of another type.")
    if header.get("format_version", BUFFER_FORMAT) != BUFFER_FORMAT:  # other formats have other fields
        raise ReplayBufferError(
            f"{path} has replay buffer format {header['format_version']}, but this version reads {BUFFER_FORMAT}."
        )
    _check_fields(path, {*_NUMBERS, "feature_set", *layout_of(replace(feature_set, n_neighbours=0))}, names)
    _check_feature_set(path, header, feature_set)
    layout = layout_of(feature_set)
    _check_fields(path, set(layout), names)
    return _read_rows(path, archive, header, layout)


def _check_fields(path: Path, wanted: set[str], found: set[str]) -> None:
    if missing := wanted - found:
        raise ReplayBufferError(f"{path} is not a saved replay buffer: it lacks {', '.join(sorted(missing))}.")


def _read_rows(
    path: Path, archive: zipfile.ZipFile, header: Rows, layout: Mapping[str, tuple[tuple[int, ...], Any]]
) -> SavedReplayBuffer:
    capacity, n_added, n_rows_added = (int(header[name]) for name in ("capacity", "n_added", "n_rows_added"))
    size, rows = min(capacity, n_rows_added), {}
    if capacity < 1 or not 0 <= n_added <= n_rows_added:
        raise ReplayBufferError(
            f"{path} is damaged: it counts {n_added} transitions in {n_rows_added} rows, {capacity} at a time."
        )
    for name, (shape, dtype) in layout.items():
        rows[name] = _entry(archive, name)
        if rows[name].shape[:1] != (size,):
            raise ReplayBufferError(f"{path} is damaged: it holds other rows than it counts.")
        if (rows[name].shape[1:], rows[name].dtype) != (shape, np.dtype(dtype)):
            raise ReplayBufferError(
                f"{path} holds {name} of shape {rows[name].shape} and type {rows[name].dtype}, but this run needs "
                f"{(size, *shape)} and {np.dtype(dtype)}."
            )
    saved = SavedReplayBuffer(capacity, n_added, n_rows_added, rows)
    if wrong := what_is_wrong(rows, saved.oldest):
        raise ReplayBufferError(f"{path} is damaged: {wrong}.")
    if np.count_nonzero(rows["decided"]) > n_added:
        raise ReplayBufferError(f"{path} is damaged: it holds more transitions than it counts.")
    return saved


def _entry(archive: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    with archive.open(f"{name}.npy") as file:
        array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        return array


def _check_feature_set(path: Path, header: Rows, feature_set: FeatureSet) -> None:
    found = f"{header['feature_set']} version {header['feature_set_version']}"
    found += f" with {header['more_features']}" if "more_features" in header else ""
    n_found, n_neighbours = int(header.get(_NEIGHBOURS, 0)), feature_set.n_neighbours
    if found != feature_set.label:
        raise ReplayBufferError(
            f"{path} holds observations of feature set {found}, but this run uses {feature_set.label}."
        )
    if n_found != n_neighbours:
        raise ReplayBufferError(
            f"{path} holds observations with {n_found} neighbours, but the networks of this run look at {n_neighbours}."
        )


def what_is_wrong(rows: Rows, oldest: int = 0) -> str | None:
    """What no learner can use among the numbers, as a part of a sentence; None where all is well.

    Args:
        rows: field by field, in the order of their places in a ring.
        oldest: the place of the oldest row.
    """
    n = len(rows["actions"])
    between: dict[str, tuple[float, float]] = {
        "actions": (0, N_ACTIONS - 1),
        "shown": (NOT_SHOWN, N_ACTIONS - 1),
        "next_row": (LOST, max(n - 1, 0)),
        "n_steps": (1, np.iinfo(np.int32).max),
        "part_steps": (0, np.iinfo(np.int32).max),
        "neighbours": (1 - n, n - 1),
    }
    for name, array in rows.items():
        if array.dtype.kind == "b":
            if array.ndim == 2 and not array.any(axis=1).all():
                return f"{name} leave some train no action"
            continue
        # no array of truth values: a buffer may fill most of the memory. Of numbers with a NaN both are NaN.
        smallest, largest = (array.min(), array.max()) if n else (0, 0)
        if not (np.isfinite(smallest) and np.isfinite(largest)):
            return f"{name} are not all finite"
        if n and name in between and not between[name][0] <= smallest <= largest <= between[name][1]:
            return f"{name} are not all from {between[name][0]:g} to {between[name][1]:g}"
    age = (np.arange(n) - oldest) % max(n, 1)
    if np.any(age + rows["next_row"] >= max(n, 1)):
        return "next_row leads past the newest row"
    if n and "neighbours" in rows and not _can_be_looked_at(rows, age):
        return "neighbours are not among the rows"
    return None


def _can_be_looked_at(rows: Rows, age: npt.NDArray[np.int64]) -> bool:
    """Whether all neighbours are there of rows at which transitions begin or end."""
    n = len(age)
    observes = rows["decided"].copy()
    follows = rows["next_row"] > 0
    observes[(np.flatnonzero(follows) + rows["next_row"][follows]) % n] = True
    neighbours, age = rows["neighbours"][observes], age[observes, np.newaxis]
    return not np.any((age + neighbours < 0) | (age + neighbours >= n))
