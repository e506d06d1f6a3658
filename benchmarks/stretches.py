"""Trainings with the defaults on Test_1 in this process, and stretches of them that are timed."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reinforcement_learning.saving.run_folders import RunFolders
from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.training.trainer import Trainer

COLLECTING = ("step", "observation", "inference", "reset")
OPTIONS: dict[str, Any] = {
    "training_env_config": "1",
    "evaluation_env_config": "1",
    "n_episodes": 1_000_000,
    "checkpoint_interval": 1_000_000,
    "eps_decay": 0.98,
    "wandb": False,
}


@contextmanager
def training(**options: Any) -> Iterator[Trainer]:
    """A training that has not begun; its files go with the block."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trainer = Trainer(TrainingConfig(**OPTIONS | options), RunFolders("benchmark", folder, folder, folder))
        with trainer.level_pool:
            yield trainer
            trainer.experience.close()


def stretch(trainer: Trainer, is_over: Callable[[float], bool]) -> dict[str, float]:
    """Plays and learns until ``is_over``, which is asked with the seconds so far.

    Returns:
        What was done, and seconds; those that parts took are of whichever process did them.
    """
    population, parts = trainer.population, trainer.stopwatch.seconds

    def so_far() -> dict[str, float]:
        return {
            "seconds": time.perf_counter(),
            "transitions": population.n_added,
            "learning_steps": population.learning_steps,
            "processor_seconds": time.process_time(),
            "resetting": parts["reset"],
            "collecting": sum(parts[part] for part in COLLECTING),
            "learning": parts["learn"],
        }

    before = so_far()
    while not is_over(time.perf_counter() - before["seconds"]):
        trainer.play_and_learn()
    return {name: value - before[name] for name, value in so_far().items()}
