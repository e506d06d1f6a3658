"""``@compiled``: where the compiled code is kept."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import numba
import numpy as np
import pytest
from numba.core import event

from utils.system import compiled as compiled_module
from utils.system import compiled_files
from utils.system.compiled import cache_folder, compiled, compiled_helper, digest_of_sources, is_missing_in_cache
from utils.system.files import PROJECT_ROOT


def plus_one(number: int) -> int:
    return number + 1


def test_the_cache_lies_beside_the_sources_and_is_named_after_them(monkeypatch) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")  # whatever the user has set
    function = compiled(plus_one)
    assert function(2) == 3
    utils = PROJECT_ROOT / "utils"
    folder = utils / "__pycache__" / f"numba-{digest_of_sources(utils)}"
    assert cache_folder() == folder
    assert Path(function.stats.cache_path) == folder


def test_a_change_of_any_file_below_makes_another_cache(tmp_path) -> None:
    (tmp_path / "wing").mkdir()
    (tmp_path / "wing" / "helper.py").write_text("A = 1\n")
    before = digest_of_sources(tmp_path)
    assert digest_of_sources(tmp_path) == before
    (tmp_path / "wing" / "helper.py").write_text("A = 2\n")
    assert digest_of_sources(tmp_path) != before


def test_the_users_cache_folder_is_respected_and_told_apart_by_sources_too(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    folder = tmp_path / f"numba-{digest_of_sources(PROJECT_ROOT / 'utils')}"
    assert Path(compiled(plus_one).stats.cache_path) == folder


def test_a_function_is_missing_in_the_cache_until_it_is_called(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    function = compiled(plus_one)
    assert is_missing_in_cache(function)
    function(2)
    assert not is_missing_in_cache(function)
    assert not is_missing_in_cache(compiled(plus_one))  # as another process finds it


def test_what_another_processor_has_compiled_is_no_use(tmp_path) -> None:
    """As for folders that several machines share: the first start on each of them says that it compiles."""
    code = (
        "from tests.system.test_compiled import compiled, is_missing_in_cache, plus_one\n"
        "function = compiled(plus_one); print(is_missing_in_cache(function)); function(2)"
    )

    def is_missing(**processor: str) -> str:
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)} | processor
        command = [sys.executable, "-c", code]
        return subprocess.run(
            command, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()

    generic = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    first_starts, later = [[is_missing(), is_missing(**generic)] for _ in range(2)]
    assert first_starts == ["True", "True"]
    assert later == ["False", "False"]


@pytest.fixture
def copied_project(tmp_path) -> Path:
    """What a compiled function needs of the project, in a folder that may be changed."""
    system = Path("utils", "system")
    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT_ROOT / system, tmp_path / "project" / system, ignore=without)
    (tmp_path / "project" / "utils" / "helper.py").write_text(HELPER)
    (tmp_path / "project" / "utils" / "caller.py").write_text(CALLER)
    return tmp_path / "project"


HELPER = """
from utils.system.compiled import compiled_helper

@compiled_helper
def step():
    return 1
"""
CALLER = """
from utils.helper import step
from utils.system.compiled import cache_folder, compiled, digest_of_sources

@compiled
def run():
    return step()
"""


@pytest.mark.parametrize("place", ["beside the sources", "NUMBA_CACHE_DIR", "home folder"])
def test_a_changed_helper_is_never_run_from_an_old_cache(copied_project, tmp_path, place) -> None:
    environment = {**os.environ, "PYTHONPATH": str(copied_project), "HOME": str(tmp_path), "XDG_CACHE_HOME": ""}
    environment.pop("NUMBA_CACHE_DIR", None)
    if place == "NUMBA_CACHE_DIR":
        environment["NUMBA_CACHE_DIR"] = str(tmp_path / "cache")
    elif place == "home folder":  # a file where the cache folder should be: even root cannot write there
        (copied_project / "utils" / "__pycache__").touch()

    def run() -> str:
        code = "from utils.caller import run; print(run(), sum(run.stats.cache_misses.values()), run.stats.cache_path)"
        command = [sys.executable, "-B", "-c", code]
        return subprocess.run(
            command, cwd=copied_project, env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert run().startswith("1 1 ")  # compiled
    assert run().startswith("1 0 ")  # from the cache
    helper = copied_project / "utils" / "helper.py"
    helper.write_text(helper.read_text().replace("return 1", "return 2"))
    assert run().startswith("2 1 ")


def _kept_file(folder: Path) -> Path:
    (file,) = folder.glob("numba-*/test_compiled.plus_one-*.nbc")
    return file


def _emptied(file: Path) -> None:
    file.write_bytes(b"")


def _cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def _overwritten(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [_emptied, _cut_short, _overwritten])
def test_what_is_damaged_is_compiled_again(tmp_path, monkeypatch, damage) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    compiled(plus_one)(2)
    damage(_kept_file(tmp_path))
    again, third = compiled(plus_one), compiled(plus_one)
    assert (again(2), third(2)) == (3, 3)
    assert [sum(function.stats.cache_hits.values()) for function in (again, third)] == [0, 1]


def test_a_full_disk_does_not_end_the_program(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))

    def full(path: Path) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(compiled_files, "atomic_write", full)
    assert compiled(plus_one)(2) == 3


def test_what_can_only_be_read_is_used_and_what_is_missing_there_is_kept_elsewhere(tmp_path, monkeypatch) -> None:
    image, home = tmp_path / "image", tmp_path / "home"
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(image))
    compiled(plus_one)(2)
    # as it is for another user than root, whom permissions do not stop
    monkeypatch.setattr(compiled_module, "_can_be_written", home.__eq__)
    monkeypatch.setattr(compiled_module, "_all_folders", lambda choice: [_kept_file(image).parent, home])
    function = compiled(plus_one)
    assert not is_missing_in_cache(function)
    assert (function(2), function(2.5)) == (3, 3.5)
    assert sum(function.stats.cache_hits.values()) == 1  # the whole number
    assert len(list(home.glob("test_compiled.plus_one-*.nbc"))) == 1

    monkeypatch.setattr(compiled_module, "_all_folders", lambda choice: [_kept_file(image).parent])
    assert cache_folder() is None
    function = compiled(plus_one)
    assert (function(2), function(2.5)) == (3, 3.5)
    assert sum(function.stats.cache_hits.values()) == 1


def test_functions_compile_where_nothing_can_be_written(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(compiled_module, "_all_folders", lambda choice: [tmp_path / "file"])
    function = compiled(plus_one)
    assert function(2) == 3
    assert function.stats.cache_path is None
    assert not is_missing_in_cache(function)


def test_what_cannot_be_written_is_no_cache_folder(tmp_path, monkeypatch) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setattr(compiled_module, "PROJECT_ROOT", file)
    monkeypatch.setenv("HOME", str(file))
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(file))
    assert cache_folder() is None


@compiled_helper
def doubled(number: int) -> int:
    if number > 50:
        print("large:", number)
    return 2 * number


def sum_of_doubled(small: np.ndarray, large: np.ndarray) -> int:
    return doubled(small[0]) + doubled(large[0]) + doubled(3) + doubled_again(small.shape[0])


@compiled_helper
def doubled_again(number: int) -> int:
    return doubled(number)


def test_a_helper_is_compiled_once_for_all_types_of_whole_numbers_and_callers(tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    numbers = np.array([30], dtype=np.int32), np.array([60], dtype=np.uint8)
    with event.install_recorder("numba:compile") as recorder:
        assert compiled(sum_of_doubled)(*numbers) == 60 + 120 + 6 + 2
    names = [record.data["dispatcher"].py_func.__name__ for _, record in recorder.buffer if record.is_start]
    assert sorted(names) == ["doubled", "doubled_again", "sum_of_doubled"]
    assert compiled(sum_of_doubled)(*numbers) == 188  # as read from the disk
    assert capfd.readouterr().out == 2 * "large: 60\n"
