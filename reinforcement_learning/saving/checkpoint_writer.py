"""Writes the checkpoints of a training and the replay buffers that belong to them, and deletes the oldest."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reinforcement_learning.learning.learner import Learner
from reinforcement_learning.saving.checkpointing import (
    BEST,
    numbered_checkpoint,
    remove_all_but_newest,
    write_checkpoint,
)
from reinforcement_learning.saving.run_folders import RunFolders
from reinforcement_learning.settings.config import TrainingConfig


class CheckpointWriter:
    """Saves a training as it goes on. What cannot be written costs a warning; earlier files are unharmed.

    Args:
        config: the whole configuration.
        folders: where checkpoints and replay buffers go.
        learners: whose replay buffers are saved, where the configuration asks for it.
        warn: gets a sentence about a file that cannot be written.
    """

    def __init__(
        self, config: TrainingConfig, folders: RunFolders, learners: Sequence[Learner], warn: Callable[[str], None]
    ) -> None:
        self._config, self._folders, self._learners, self._warn = config, folders, learners, warn

    def save(self, content: dict[str, Any]) -> None:
        """Saves a numbered checkpoint.

        Buffers first, then the checkpoint that names them: they fit together whenever the process is killed.
        """
        earlier = set(self._folders.replay_buffers.glob("episode_*.npz"))
        buffers = self._save_buffers(content["episode"]) if self._config.save_replay_buffer else []
        path = numbered_checkpoint(self._folders.checkpoints, content["episode"])
        if self._write(path, content, buffers):
            remove_all_but_newest(self._folders.checkpoints, "episode_*.pt", self._config.keep_checkpoints)
            if buffers:
                remove_all_but_newest(self._folders.replay_buffers, "episode_*.npz", len(buffers))
        else:  # no checkpoint names them, and the disk may be full
            for buffer in set(buffers) - earlier:
                buffer.unlink(missing_ok=True)

    def save_best(self, content: dict[str, Any]) -> bool:
        """Saves the checkpoint with the best evaluation; whether that could be written."""
        return self._write(self._folders.checkpoints / BEST, content)

    def _save_buffers(self, episode: int) -> list[Path]:
        """A file for each policy's replay buffer, or none at all."""
        # n_added in the name: an interrupted episode must not overwrite the buffer of the checkpoint before it
        name = f"episode_{episode:07d}_{sum(learner.buffer.n_added for learner in self._learners)}"
        paths = []
        for p, learner in enumerate(self._learners):
            suffix = f"_policy_{p:02d}" if len(self._learners) > 1 else ""
            path = self._folders.replay_buffers / f"{name}{suffix}.npz"
            try:
                learner.buffer.save(path)
            except OSError as error:
                self._warn(f"the replay buffer could not be saved to {path} ({error.strerror}).")
                return []
            paths.append(path)
        return paths

    def _write(self, path: Path, content: dict[str, Any], buffers: Sequence[Path] = ()) -> bool:
        try:
            write_checkpoint(path, content | {"replay_buffers": [str(buffer) for buffer in buffers]})
        except OSError as error:
            self._warn(f"the checkpoint {path} could not be written ({error.strerror}); earlier ones are unharmed.")
            return False
        return True
