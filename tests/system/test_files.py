"""Files that are whole or absent."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from utils.system.files import PROJECT_ROOT, TEMPORARY_SUFFIX, atomic_write, remove_unfinished


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


@pytest.mark.parametrize("there", [True, False])
def test_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path, there: bool) -> None:
    (tmp_path / "folder").mkdir()
    target, link, link_to_link = tmp_path / "folder" / "file.bin", tmp_path / "link", tmp_path / "second"
    if there:
        target.write_bytes(b"old")
    link.symlink_to(Path("folder") / "file.bin")
    link_to_link.symlink_to(link)
    with atomic_write(link_to_link) as file:
        file.write(b"new")
        assert target.exists() == there
    assert target.read_bytes() == b"new"
    assert link.is_symlink()
    assert link_to_link.is_symlink()
    assert os.listdir(target.parent) == ["file.bin"]


def test_pipe_is_written_into(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with atomic_write(path) as file:
            file.write(b"content")
        assert os.read(reader, 100) == b"content"
    finally:
        os.close(reader)
    assert path.is_fifo()
    assert os.listdir(tmp_path) == ["pipe"]


def test_device_is_written_into() -> None:
    reading, terminal = os.openpty()  # where nothing can be renamed, should this go wrong
    try:
        with atomic_write(os.ttyname(terminal)) as file:
            file.write(b"content")
        assert os.read(reading, 100) == b"content"
    finally:
        os.close(terminal)
        os.close(reading)


def test_standard_output_keeps_what_was_printed(tmp_path: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from utils.system.files import atomic_write\n"
        "print('before', flush=True)\n"
        "with atomic_write('standard_output') as file: file.write(b'content\\n')\n"
        "print('after')\n"
    )
    (tmp_path / "standard_output").symlink_to("/proc/self/fd/1")  # what /dev/stdout is
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", script, str(PROJECT_ROOT)], stdout=out, cwd=tmp_path, check=True)
    assert (tmp_path / "out").read_text().split() == ["before", "content", "after"]


def test_remove_unfinished_takes_only_what_killed_writers_left(tmp_path: Path) -> None:
    for name in (f".file.bin.123{TEMPORARY_SUFFIX}", "file.bin", f"mine{TEMPORARY_SUFFIX}", ".hidden"):
        (tmp_path / name).touch()
    remove_unfinished(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".hidden", "file.bin", f"mine{TEMPORARY_SUFFIX}"]
