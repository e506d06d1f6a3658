"""Where a run writes, checked before anything is trained."""

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from reinforcement_learning.learning.replay_buffer import bytes_needed
from reinforcement_learning.saving.checkpointing import newest_first
from reinforcement_learning.settings.config import ConfigError, TrainingConfig
from reinforcement_learning.settings.features import feature_set_of
from reinforcement_learning.settings.run_config import options_to_repeat
from utils.system.console import as_typed
from utils.system.files import remove_unfinished

LOCK_FILE = ".lock"


@dataclass(frozen=True)
class RunFolders:
    """The folders of one run."""

    name: str
    checkpoints: Path
    replay_buffers: Path
    output: Path


@contextlib.contextmanager
def own_run_folders(config: TrainingConfig, *, resumed: bool) -> Iterator[RunFolders]:
    """Names the run, makes its folders, makes sure that they can be written, and keeps other trainings out of them.

    Folders that were made for the run and are empty at the end of the block go again.

    Raises:
        ConfigError: a folder cannot be written, or the name belongs to another run.
    """
    parents = [Path(config.checkpoint_dir), Path(config.replay_buffer_dir), Path(config.output_dir)]
    with contextlib.ExitStack() as stack:
        for option, parent in zip(("checkpoint_dir", "replay_buffer_dir", "output_dir"), parents, strict=True):
            stack.callback(_remove_if_empty, _missing(parent))
            check_writable(option, parent)
        name = config.run_name or _free_name(config, parents)
        checkpoints, replay_buffers, output = (parent / name for parent in parents)
        folders = (checkpoints, output, *([replay_buffers] if config.save_replay_buffer else []))
        for folder in {os.path.realpath(folder): folder for folder in folders}.values():  # two may be one
            stack.callback(_remove_if_empty, _missing(folder) if config.run_name else [folder])
            check_writable("run_name", folder)
            _lock(stack, name, folder)
            remove_unfinished(folder)
        there = newest_first(checkpoints, "*.pt")
        if there and not resumed:
            raise ConfigError(
                f"--run_name {name!r} already has checkpoints in {checkpoints}: choose another name, or go on with "
                f"{as_typed(['--resume', str(there[0]), *options_to_repeat(config)])}."
            )
        yield RunFolders(name, checkpoints, replay_buffers, output)


def _lock(stack: contextlib.ExitStack, name: str, folder: Path) -> None:
    """Keeps others out of a folder until the stack ends, or the process, whatever ends that."""
    path = folder / LOCK_FILE
    try:
        stack.enter_context(FileLock(path, blocking=False, fallback_to_soft=False))
    except Timeout as error:
        raise ConfigError(
            f"--run_name {name!r} is the name of a training that runs now and writes to {folder}: choose another name, "
            "or wait for its end."
        ) from error
    except OSError:  # a file system without locks: nobody is kept out
        pass
    stack.callback(_remove, path)  # while it is locked


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _missing(folder: Path) -> list[Path]:
    """The folder and those above it, as far as they are not there yet; the lowest first."""
    # os.path.exists: of a name that is too long pathlib raises an error
    return list(itertools.takewhile(lambda path: not os.path.exists(path), (folder, *folder.parents)))


def _remove_if_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def check_file_writable(option: str, path: Path) -> None:
    """Makes the folder of a file where it is missing, and makes sure that the file can be written.

    Raises:
        ConfigError: it cannot, or is a folder; the sentence names the option.
    """
    if os.path.isdir(path):
        raise ConfigError(f"--{option} is {str(path)!r}, a folder, but must be a file.")
    if not os.path.exists(path) or os.path.isfile(path):
        check_writable(option, Path(os.path.realpath(path)).parent)  # where a link leads to
    elif not os.access(path, os.W_OK):  # a device or a pipe
        raise ConfigError(f"--{option}: {path} cannot be written.")


def check_writable(option: str, folder: Path) -> None:
    """Makes a folder where it is missing and writes an empty file there, for a moment.

    Raises:
        ConfigError: one of the two fails; the sentence names the option.
    """
    probe = folder / f".writable.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"--{option}: {folder} cannot be written ({error.strerror}).") from error


def _free_name(config: TrainingConfig, parents: list[Path]) -> str:
    """A name by environment, seed and time; claimed by making its folder, as sweeps start several runs a second."""
    environment = Path(config.training_env.name).stem[:100]  # the names of files have an end
    wanted = f"{environment}-seed{config.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    for attempt in range(1, 1000):
        name = wanted if attempt == 1 else f"{wanted}-{attempt}"
        try:
            (parents[0] / name).mkdir(parents=True)
        except FileExistsError:
            continue
        return name
    raise ConfigError(f"{parents[0]} has no room for one more run named {wanted!r}; choose another --run_name.")


def warn_about_sizes(config: TrainingConfig, warn: Callable[[str], None]) -> None:
    """Warns of a replay buffer that will not fit into memory or, where it is saved, onto the disk."""
    needed = config.num_policies * bytes_needed(config.buffer_size, feature_set_of(config))
    what = "the replay buffer takes" if config.num_policies == 1 else f"{config.num_policies} replay buffers take"
    available = psutil.virtual_memory().available
    if needed > available:
        warn(
            f"{what} {_gigabytes(needed)} when full (--buffer_size {config.buffer_size}), "
            f"but only {_gigabytes(available)} of memory are free."
        )
    if config.save_replay_buffer:
        free = psutil.disk_usage(config.replay_buffer_dir).free
        if 2 * needed > free:  # the new file is complete before the old one goes
            warn(
                f"saving the replay buffer takes up to {_gigabytes(2 * needed)} of disk, but "
                f"{config.replay_buffer_dir} has only {_gigabytes(free)} free."
            )


def _gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB"
