"""What is told at the end of a training of several policies."""

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reinforcement_learning.training import summary
from reinforcement_learning.training.summary import CROSS_PLAY_FILE, LINEAGE_FILE, report_several_policies
from reinforcement_learning.training.trainer import Trainer
from tests.helpers.tiny_training import make_trainer


def exchanged(folder: Path, **options: Any) -> Trainer:
    """A trainer whose policies have changed places once."""
    options = {"num_policies": 4, "n_evaluation_episodes": 1, "with_pbt": True, "pbt_min_errors": 0.0} | options
    trainer, _ = make_trainer(folder, **options)
    trainer.population.exchange(10, np.array([[-0.1], [-0.2], [-0.3], [-0.9]]))
    return trainer


def test_cross_play_and_take_overs(tmp_path: Path) -> None:
    trainer = exchanged(tmp_path)
    lines = report_several_policies(trainer, with_cross_play=True)
    assert not trainer.unsaved
    folder = trainer.folders.output
    table = json.loads((folder / CROSS_PLAY_FILE).read_text())
    assert len(table) == 4 + 6 + 1  # alone, pairs, mapping
    assert all(line["who"] in lines[0] for line in table)
    assert (folder / LINEAGE_FILE).read_bytes().startswith(b"\x89PNG")
    assert [line.split()[-1] for line in lines[1:]] == [str(folder / CROSS_PLAY_FILE), str(folder / LINEAGE_FILE)]


def test_cross_play_can_be_left_out(tmp_path: Path) -> None:
    trainer = exchanged(tmp_path)
    lines = report_several_policies(trainer, with_cross_play=False)
    assert len(lines) == 1
    assert LINEAGE_FILE in lines[0]
    assert not (trainer.folders.output / CROSS_PLAY_FILE).exists()


def test_single_policy_has_nothing_to_report(tmp_path: Path) -> None:
    trainer, _ = make_trainer(tmp_path)
    assert report_several_policies(trainer, with_cross_play=True) == []


def test_full_disk_costs_the_file_but_not_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(summary, "atomic_write", full)
    trainer, sink = make_trainer(tmp_path, num_policies=2, n_evaluation_episodes=1)
    (table,) = report_several_policies(trainer, with_cross_play=True)
    assert "training mapping" in table
    assert trainer.unsaved == [CROSS_PLAY_FILE]
    path = trainer.folders.output / CROSS_PLAY_FILE
    assert sink.messages == [f"warning: {path} could not be written (No space left on device)."]
