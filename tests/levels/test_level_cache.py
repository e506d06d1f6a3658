"""Levels on disk: the same levels again, and damage that costs no more than time."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from flatland.envs.persistence import RailEnvPersister

from utils.levels import level_cache
from utils.levels.env_configs import ENV_CONFIGS, SavedEnv, make_rail_env
from utils.levels.level_cache import LevelCache, level_key

TINY = ENV_CONFIGS["Tiny"]


class Caches:
    """Opens the same cache again and again and keeps its warnings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.warnings: list[str] = []

    def open(self, seed: int = 0) -> LevelCache:
        return LevelCache(self.folder, TINY, seed, self.warnings.append)

    def files(self) -> list[Path]:
        return sorted(self.folder.glob("*/*"))


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Caches:
    monkeypatch.setattr(level_cache, "LEVELS_IN_FILE", 4)
    return Caches(tmp_path)


def content(number: int) -> bytes:
    return bytes([number]) * (number + 1)


def fill(cache: LevelCache, numbers: range) -> None:
    for number in numbers:
        cache.put(number, content(number))


def test_round_trip(caches: Caches) -> None:
    fill(caches.open(), range(3, 10))  # not flushed: only full files are there
    assert [path.name for path in caches.files()] == ["levels_0000004_0000007.npz"]
    cache = caches.open()
    fill(cache, range(10))
    cache.flush()
    again = caches.open()
    assert [again.get(number) for number in range(12)] == [*map(content, range(10)), None, None]
    assert 9 in again
    assert 10 not in again
    assert caches.warnings == []


def test_partly_filled_files_are_filled_up(caches: Caches) -> None:
    for numbers in (range(2), range(2, 3), range(3, 5)):
        cache = caches.open()
        fill(cache, numbers)
        cache.flush()
    assert [caches.open().get(number) for number in range(5)] == [*map(content, range(5))]


def test_memory_holds_only_files_near_by_and_nothing_is_lost(caches: Caches) -> None:
    cache = caches.open()
    for number in range(0, 200, 2):
        assert cache.get(number) is None
        cache.put(number, content(number))
    assert len(cache._blocks) <= 3
    cache.flush()
    assert all(caches.open().get(number) == content(number) for number in range(0, 200, 2))


def test_files_hold_no_pickles_and_are_written_once(caches: Caches) -> None:
    cache = caches.open()
    fill(cache, range(4))
    (path,) = caches.files()
    with np.load(path, allow_pickle=False) as file:
        assert file["numbers"].tolist() == [0, 1, 2, 3]
    written = path.stat().st_mtime_ns
    fill(cache, range(4))
    cache.flush()
    assert path.stat().st_mtime_ns == written


def test_any_damage_is_noticed_and_made_good(caches: Caches) -> None:
    fill(caches.open(), range(4))
    (path,) = caches.files()
    whole = path.read_bytes()
    for i in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[i] ^= 0x55
        path.write_bytes(damaged)
        cache = caches.open()
        got = [cache.get(number) for number in range(4)]
        # Bytes that mean nothing, such as the date of an array, may be wrong.
        assert got == [None] * 4 or got == [*map(content, range(4))]
        assert (got[0] is None) == (len(caches.warnings) == 1)
        caches.warnings.clear()
    for cut in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert caches.open().get(0) is None
        assert "made anew" in caches.warnings.pop()
    cache = caches.open()
    fill(cache, range(4))
    assert path.read_bytes() == whole


def test_file_of_other_levels_is_refused(caches: Caches) -> None:
    fill(caches.open(), range(4))
    (path,) = caches.files()
    other = caches.open(seed=1)
    other.folder.mkdir()
    (other.folder / path.name).write_bytes(path.read_bytes())
    assert other.get(0) is None
    assert "it holds other levels" in caches.warnings[0]


def test_folder_that_cannot_be_written_is_said_once(caches: Caches) -> None:
    cache = caches.open()
    cache.folder.write_text("in the way")
    fill(cache, range(12))
    cache.flush()
    assert cache.get(9) == content(9)
    (said,) = caches.warnings
    assert "cannot be written" in said
    assert str(cache.folder) in said


def test_key_holds_what_levels_depend_on(tmp_path: Path) -> None:
    same = dataclasses.replace(TINY, name="Another")
    assert level_key(TINY, 0) == level_key(same, 0)
    changed = [dataclasses.replace(TINY, n_agents=3), dataclasses.replace(TINY, speed_ratios=((0.5, 1.0),))]
    assert all(level_key(config, 0) != level_key(TINY, 0) for config in changed)
    assert level_key(TINY, 1) != level_key(TINY, 0)
    keys = []
    for seed in (1, 2):
        RailEnvPersister.save(make_rail_env(TINY, seed), tmp_path / "level.pkl")
        keys.append(level_key(SavedEnv(tmp_path / "level.pkl"), 0))
    assert keys[0] != keys[1]
