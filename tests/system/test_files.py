"""Files that are whole or absent."""

import os
from pathlib import Path

import pytest

from utils.system.files import TEMPORARY_SUFFIX, atomic_write, remove_unfinished


def test_content_arrives_in_a_folder_that_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.bin"
    with atomic_write(path) as file:
        file.write(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert os.listdir(path.parent) == ["file.bin"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), ValueError("not ready")])
def test_failing_in_the_middle_leaves_the_old_file_and_no_litter(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with pytest.raises(type(error)), atomic_write(path) as file:  # noqa: PT012
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.bin"]


def test_failing_rename_leaves_no_litter(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"), atomic_write(tmp_path / "taken") as file:
        file.write(b"new")
    assert os.listdir(tmp_path) == ["taken"]


def test_remove_unfinished_takes_only_what_killed_writers_left(tmp_path: Path) -> None:
    for name in (f".file.bin.123{TEMPORARY_SUFFIX}", "file.bin", f"mine{TEMPORARY_SUFFIX}", ".hidden"):
        (tmp_path / name).touch()
    remove_unfinished(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".hidden", "file.bin", f"mine{TEMPORARY_SUFFIX}"]
