"""Helpers of the tests: trainings that are small enough to be repeated, and what they leave behind."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reinforcement_learning.saving.run_folders import RunFolders
from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.tracking.metrics import MetricsWriter, Sink
from reinforcement_learning.training.trainer import Trainer

SMALL: dict[str, Any] = {
    "training_env_config": "Tiny",
    "evaluation_env_config": "Tiny",
    "n_evaluation_episodes": 2,
    "checkpoint_interval": 3,
    "hidden_size": 16,
    "buffer_size": 500,
    "buffer_min_size": 32,
    "batch_size": 16,
    "update_every": 16,
    "feature_set": "tree_routes",
    "demonstrations": 0.0,
    "num_envs": 1,
    "wandb": False,
    "level_workers": 0,
}
# Without what makes trains play well from the start: the episodes of a new policy then differ more.
UNGUIDED: dict[str, Any] = {"feature_set": "tree", "safe_moves": False}
# What a machine measures of itself differs from run to run; everything else in a row must not.
MEASURED = ("timer/", "throughput/", "system/")


class MemorySink(Sink):
    """Keeps rows and messages."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.messages: list[str] = []

    def log(self, episode: int, metrics: Mapping[str, float]) -> None:
        self.rows.append({"episode": episode} | {k: v for k, v in metrics.items() if not k.startswith(MEASURED)})

    def message(self, text: str) -> None:
        self.messages.append(text)


def run_folders(base: Path) -> RunFolders:
    """Fresh folders below ``base``, made."""
    folders = RunFolders("run", base / "checkpoints", base / "replay_buffers", base / "output")
    for folder in (folders.checkpoints, folders.replay_buffers, folders.output):
        folder.mkdir(parents=True, exist_ok=True)
    return folders


def make_trainer(
    base: Path,
    *,
    stop_requested: Callable[[], bool] = lambda: False,
    sinks: Sequence[Sink] = (),
    log_mapping: bool = False,
    evaluates_at_start: bool = False,
    devices: Sequence[str] | None = None,
    **options: Any,
) -> tuple[Trainer, MemorySink]:
    """A trainer of a small training below ``base``, and the sink that its rows go to, besides ``sinks``.

    Without ``evaluates_at_start`` the policies count as evaluated before the first episode.
    """
    sink, folders = MemorySink(), run_folders(base)
    trainer = Trainer(
        TrainingConfig(**{**SMALL, **options}),
        folders,
        metrics=MetricsWriter([sink, *sinks]),
        logs_mapping=log_mapping,
        stop_requested=stop_requested,
        devices=devices,
    )
    if not evaluates_at_start:
        trainer.state.last_evaluation = {"evaluation/nb_episodes": 0.0}
    return trainer, sink


def stop_after(n_questions: int) -> Callable[[], bool]:
    """A ``stop_requested`` that says yes from the ``n_questions``-th time it is asked on."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked >= n_questions

    return stop
