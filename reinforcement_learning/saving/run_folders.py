"""Where a run writes, checked before anything is trained."""

import os
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from reinforcement_learning.learning.replay_buffer import bytes_needed
from reinforcement_learning.saving.checkpointing import newest_first
from reinforcement_learning.settings.config import ConfigError, TrainingConfig, options_to_repeat
from reinforcement_learning.settings.features import feature_set_of
from utils.system.files import remove_unfinished


@dataclass(frozen=True)
class RunFolders:
    """The folders of one run."""

    name: str
    checkpoints: Path
    replay_buffers: Path
    output: Path


def prepare_run_folders(config: TrainingConfig, *, resumed: bool) -> RunFolders:
    """Names the run, makes its folders and makes sure that they can be written.

    Raises:
        ConfigError: a folder cannot be written, or the name belongs to another run.
    """
    parents = [Path(config.checkpoint_dir), Path(config.replay_buffer_dir), Path(config.output_dir)]
    for option, parent in zip(("checkpoint_dir", "replay_buffer_dir", "output_dir"), parents, strict=True):
        check_writable(option, parent)
    name = config.run_name or _free_name(config, parents)
    checkpoints, replay_buffers, output = (parent / name for parent in parents)
    for folder in (checkpoints, output, *([replay_buffers] if config.save_replay_buffer else [])):
        check_writable("run_name", folder)
        remove_unfinished(folder)
    there = newest_first(checkpoints, "*.pt")
    if there and not resumed:
        raise ConfigError(
            f"--run_name {name!r} already has checkpoints in {checkpoints}: choose another name, or go on with "
            f"{shlex.join(['--resume', str(there[0]), *options_to_repeat(config)])}."
        )
    return RunFolders(name, checkpoints, replay_buffers, output)


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
    needed = config.num_policies * bytes_needed(config.buffer_size, feature_set_of(config).n_features)
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
