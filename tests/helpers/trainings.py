"""Helpers of the tests: trainings run, resumed and compared to the bit."""

import copy
from pathlib import Path
from typing import Any

import numpy as np

from reinforcement_learning.saving.checkpointing import numbered_checkpoint, read_checkpoint
from reinforcement_learning.training.trainer import Trainer
from tests.helpers.tiny_training import MemorySink, make_trainer, stop_after

CLOCK_STATE = ("seconds", "seconds_by_part")


def assert_same(first: Any, second: Any, where: str = "") -> None:
    """Equal to the bit, through dictionaries and lists; NaN equals NaN."""
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_same(first[key], second[key], f"{where}/{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for i, (a, b) in enumerate(zip(first, second, strict=True)):
            assert_same(a, b, f"{where}/{i}")
    else:
        np.testing.assert_equal(np.asarray(first), np.asarray(second), err_msg=where)


def state_of(trainer: Trainer) -> dict[str, Any]:
    """Everything that a training consists of, clocks left out."""
    state = {name: value for name, value in trainer.state.state_dict().items() if name not in CLOCK_STATE}
    buffers = [(learner.buffer.n_added, learner.buffer.rows()) for learner in trainer.population.learners]
    return copy.deepcopy(state | {"buffers": buffers})


def run(base: Path, **options: Any) -> tuple[Trainer, MemorySink]:
    trainer, sink = make_trainer(base, **options)
    trainer.run()
    return trainer, sink


def resume(base: Path, checkpoint: Path, **options: Any) -> tuple[Trainer, MemorySink]:
    """A new trainer that goes on from a checkpoint and its replay buffer."""
    trainer, sink = make_trainer(base, **options)
    trainer.resume(checkpoint, read_checkpoint(checkpoint))
    return trainer, sink


def assert_equals_uninterrupted(
    base: Path, uninterrupted: tuple[Trainer, MemorySink], questions: int, options: dict[str, Any]
) -> None:
    """A training stopped after so many questions, then resumed, is the uninterrupted one to the bit."""
    stopped, first_sink = make_trainer(base, stop_requested=stop_after(questions), **options)
    assert not stopped.run()
    checkpoint = numbered_checkpoint(stopped.folders.checkpoints, stopped.episode)
    resumed, later_sink = resume(base, checkpoint, **options)
    assert resumed.run()
    wanted, wanted_sink = uninterrupted
    assert_same(state_of(resumed), state_of(wanted))
    assert_same(first_sink.rows + later_sink.rows, wanted_sink.rows)
