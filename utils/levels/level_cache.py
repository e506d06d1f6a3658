"""Packed levels on disk, for trainings that are repeated: 100 levels a file, about 50 kB for ten trains."""

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from utils.levels.env_configs import EnvConfig, SavedEnv
from utils.levels.packed_level import FORMAT
from utils.system.files import atomic_write

LEVELS_IN_FILE = 100


class LevelCache:
    """The levels of one configuration and seed, in a folder of their own below the one that is given.

    What a level depends on is part of the folder's name and stands in each file as well. Files hold plain arrays and
    no pickles, are written atomically, and what cannot be read or written only costs a warning.

    Args:
        folder: where caches are kept; made when the first file is written.
        config: the distribution of levels.
        seed: see ``TrainingLevels``.
        warn: gets a sentence about each file that cannot be used.
    """

    def __init__(self, folder: Path, config: EnvConfig | SavedEnv, seed: int, warn: Callable[[str], None]) -> None:
        self._key = json.dumps(level_key(config, seed), sort_keys=True).encode()
        digest = hashlib.sha256(self._key).hexdigest()[:12]
        self.folder = folder / f"{config.name}-seed{seed}-{digest}"
        self._warn = warn
        self._blocks: dict[int, dict[int, bytes]] = {}
        self._unsaved: set[int] = set()
        self._can_write = True

    def __contains__(self, number: int) -> bool:
        return number in self._block(number)

    def get(self, number: int) -> bytes | None:
        """A packed level, None if it is not here. Files that lie far before it leave memory."""
        for index in [index for index in self._blocks if index < number // LEVELS_IN_FILE - 1]:
            self._save(index)
            del self._blocks[index]
        return self._block(number).get(number)

    def put(self, number: int, packed: bytes) -> None:
        """Keeps a level; it is on disk when all levels of its file are there, or after ``flush``."""
        block, index = self._block(number), number // LEVELS_IN_FILE
        if block.get(number) == packed:
            return
        block[number] = packed
        self._unsaved.add(index)
        if len(block) == LEVELS_IN_FILE:
            self._save(index)

    def flush(self) -> None:
        """Writes everything."""
        for index in list(self._blocks):
            self._save(index)

    def _path(self, index: int) -> Path:
        first = index * LEVELS_IN_FILE
        return self.folder / f"levels_{first:07d}_{first + LEVELS_IN_FILE - 1:07d}.npz"

    def _block(self, number: int) -> dict[int, bytes]:
        """The levels of the file that holds a level, as far as they are there."""
        index = number // LEVELS_IN_FILE
        if index not in self._blocks:
            self._blocks[index] = self._load(self._path(index))
        return self._blocks[index]

    def _load(self, path: Path) -> dict[int, bytes]:
        try:
            # read as a whole: an archive that is read array by array has its checksums checked as well
            with np.load(path, allow_pickle=False) as file:
                key, numbers, ends, levels = (file[name].copy() for name in ("key", "numbers", "ends", "levels"))
            if key.tobytes() != self._key:
                raise ValueError("it holds other levels")
            content, starts = levels.tobytes(), [0, *ends[:-1].tolist()]
            spans = zip(numbers.tolist(), starts, ends.tolist(), strict=True)
            return {number: content[start:end] for number, start, end in spans}
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except Exception as error:  # a damaged archive can raise anything
            self._warn(f"the cached levels {path} cannot be used ({error}); they are made anew.")
            return {}

    def _save(self, index: int) -> None:
        if index not in self._unsaved or not self._can_write:
            return
        self._unsaved.remove(index)
        block = sorted(self._blocks[index].items())
        arrays: dict[str, Any] = {
            "key": np.frombuffer(self._key, dtype=np.uint8),
            "numbers": np.array([number for number, _ in block], dtype=np.int64),
            "ends": np.cumsum([len(packed) for _, packed in block], dtype=np.int64),
            "levels": np.frombuffer(b"".join(packed for _, packed in block), dtype=np.uint8),
        }
        try:
            with atomic_write(self._path(index)) as file:
                np.savez(file, **arrays)
        except OSError as error:
            self._can_write = False
            self._warn(f"{self.folder} cannot be written ({error.strerror}); levels are not kept there any more.")


def level_key(config: EnvConfig | SavedEnv, seed: int) -> dict[str, Any]:
    """Everything that the levels of a training depend on, as plain values.

    Python counts because the order of its sets is its own affair, and flatland's generators go through sets.
    """
    if isinstance(config, SavedEnv):
        content: Any = hashlib.sha256(config.path.read_bytes()).hexdigest()
    else:
        content = {name: value for name, value in asdict(config).items() if name != "name"}
    return {
        "format": FORMAT,
        "flatland-rl": version("flatland-rl"),
        "numpy": version("numpy"),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "seed": seed,
        "levels": content,
    }
