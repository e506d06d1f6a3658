"""Writes the checkpoints of a training and the replay buffers that belong to them, and deletes the oldest."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reinforcement_learning.learning.learner import Learner
from reinforcement_learning.saving.checkpointing import (
    BEST,
    newest_first,
    numbered_checkpoint,
    numbered_checkpoints,
    remove_all_but_newest,
    when_written,
    write_checkpoint,
)
from reinforcement_learning.saving.run_folders import RunFolders
from reinforcement_learning.settings.config import TrainingConfig


class CheckpointWriter:
    """Saves a training as it goes on. What cannot be written costs a warning; earlier files are unharmed.

    Args:
        learners: whose replay buffers are saved, where the configuration asks for it.
    """

    def __init__(
        self, config: TrainingConfig, folders: RunFolders, learners: Sequence[Learner], warn: Callable[[str], None]
    ) -> None:
        self._config, self._folders, self._learners, self._warn = config, folders, learners, warn
        self._numbered: list[Path] = []  # what was written here, the newest first
        self._last_written = 0  # see when_written
        self._unsaved: dict[str, None] = {}  # in order

    @property
    def unsaved(self) -> list[str]:
        """What could not be written, and was not written later either, in words."""
        return list(self._unsaved)

    @property
    def newest(self) -> Path | None:
        """The newest checkpoint in the folder of the run."""
        return next(iter(newest_first(self._folders.checkpoints, "*.pt")), None)

    def save(self, content: dict[str, Any]) -> bool:
        """Saves a numbered checkpoint; whether that could be written.

        Buffers first, then the checkpoint that names them: they fit together whenever the process is killed.
        """
        earlier = set(self._folders.replay_buffers.glob("episode_*.npz"))
        buffers = self._save_buffers(content["episode"]) if self._config.save_replay_buffer else []
        path = numbered_checkpoint(self._folders.checkpoints, content["episode"])
        saved = self._write(path, content, buffers)
        if saved:
            keep = self._config.keep_checkpoints
            self._numbered = [path, *(other for other in self._numbered if other != path)][:keep]
            remove_all_but_newest(self._folders.checkpoints, keep, self._numbered)
            no_longer_needed = earlier - set(buffers) if buffers else set()
        else:  # no checkpoint names the new buffers, and the disk may be full
            no_longer_needed = set(buffers) - earlier
        for buffer in no_longer_needed:
            buffer.unlink(missing_ok=True)
        self._note("the newest checkpoint", saved)
        return saved

    def save_best(self, content: dict[str, Any]) -> bool:
        """Saves the checkpoint with the best evaluation; whether that could be written."""
        saved = self._write(self._folders.checkpoints / BEST, content)
        self._note(BEST, saved)
        return saved

    def _save_buffers(self, episode: int) -> list[Path]:
        """A file for each policy's replay buffer, or none at all."""
        # n_added in the name: an interrupted episode must not overwrite the buffer of the checkpoint before it
        name = f"episode_{episode:07d}_{sum(learner.buffer.n_added for learner in self._learners)}"
        paths: list[Path] = []
        for p, learner in enumerate(self._learners):
            suffix = f"_policy_{p:02d}" if len(self._learners) > 1 else ""
            path = self._folders.replay_buffers / f"{name}{suffix}.npz"
            try:
                learner.buffer.save(path)
            except OSError as error:
                self._warn(f"the replay buffer could not be saved to {path} ({error.strerror}).")
                paths = []
                break
            paths.append(path)
        self._note("the replay buffer", bool(paths))
        return paths

    def _write(self, path: Path, content: dict[str, Any], buffers: Sequence[Path] = ()) -> bool:
        written = {"replay_buffers": [str(buffer) for buffer in buffers], "written": self._now()}
        try:
            write_checkpoint(path, content | written)
        except OSError as error:
            self._warn(f"the checkpoint {path} could not be written ({error.strerror}); earlier ones are unharmed.")
            return False
        return True

    def _now(self) -> int:
        """The time, but always later than all that was written before, here and by other runs beside this one."""
        if not self._last_written:
            runs = {path.parent for path in self._folders.checkpoints.parent.glob("*/*.pt")}
            newest = [path for run in runs for path in (run / BEST, *numbered_checkpoints(run)[:1])]
            self._last_written = max(map(when_written, newest), default=0)
        self._last_written = max(time.time_ns(), self._last_written + 1)
        return self._last_written

    def _note(self, what: str, saved: bool) -> None:
        if saved:
            self._unsaved.pop(what, None)
        else:
            self._unsaved[what] = None
