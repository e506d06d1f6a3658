"""Folders and patterns of saved levels, which are played in turn."""

import glob
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from flatland.envs.rewards import DefaultRewards, Rewards

from utils.levels.saved_levels import EnvConfigError, SavedEnv, check_saved_env, is_saved_env_path
from utils.levels.stations import holds_stations


@dataclass(frozen=True)
class LevelFolder:
    """Saved levels that are played in turn."""

    given: str  # the folder or the pattern, as text
    files: tuple[Path, ...]  # paths of the levels, in order, at least one
    rewards: type[Rewards] = DefaultRewards  # made anew for each level

    @classmethod
    def find(cls, given: str) -> "LevelFolder":
        """All ``.pkl`` files in a folder and below, or all that match a pattern; files of stations do not count.

        Raises:
            EnvConfigError: there is none.
        """
        is_folder = os.path.isdir(given)
        pattern = os.path.join(glob.escape(given), "**", "*") if is_folder else given
        found = sorted(Path(path) for path in glob.glob(pattern, recursive=True) if is_saved_env_path(path))
        files = tuple(path for path in found if not holds_stations(path))
        if not files:
            where = f"in the folder {given!r}" if is_folder else f"that matches {given!r}"
            raise EnvConfigError(f"there is no saved environment (.pkl) {where}")
        return cls(given, files)

    @property
    def name(self) -> str:
        """The name shown in logs: that of the folder, or the part of the pattern that names something."""
        parts = [part for part in Path(os.path.abspath(self.given)).parts if not glob.has_magic(part)]
        return parts[-1] if len(parts) > 1 else "levels"

    @cached_property
    def levels(self) -> list[SavedEnv]:
        """The levels, with names by which they can be told apart."""
        below = os.path.commonpath([path.parent for path in self.files])
        names = ["-".join(path.relative_to(below).with_suffix("").parts) for path in self.files]
        return [SavedEnv(path, self.rewards, name) for path, name in zip(self.files, names, strict=True)]

    def level(self, number: int) -> SavedEnv:
        """The level whose turn it is."""
        return self.levels[number % len(self.files)]

    @cached_property
    def n_agents(self) -> int:
        """The most trains that a level has.

        Raises:
            EnvConfigError: a file has become unusable.
        """
        return max(level.n_agents for level in self.levels)

    def check(self) -> None:
        """Reads all files, so that a wrong one is noticed before training starts.

        Raises:
            EnvConfigError: one of them holds no usable environment.
        """
        for level in self.levels:
            check_saved_env(level)
