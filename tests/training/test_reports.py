"""What is told at the end of a training of several policies."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from reinforcement_learning.training import reports
from reinforcement_learning.training.reports import CROSS_PLAY_FILE, LINEAGE_FILE, report_several_policies
from reinforcement_learning.training.trainer import Trainer
from tests.helpers.tiny_training import make_trainer


def no_warning(text: str) -> None:
    pytest.fail(text)


def exchanged(folder: Path, **options: Any) -> Trainer:
    """A trainer whose policies have changed places once."""
    trainer, _ = make_trainer(folder, num_policies=4, n_evaluation_episodes=1, with_pbt=True, **options)
    trainer.episode = 20
    trainer.population.exchange(10, [-0.1, -0.2, -0.3, -0.9])
    return trainer


def test_who_gets_along_and_who_descends_from_whom(tmp_path: Path) -> None:
    lines = report_several_policies(exchanged(tmp_path), tmp_path, finished=True, warn=no_warning)
    table = json.loads((tmp_path / CROSS_PLAY_FILE).read_text())
    assert len(table) == 4 + 6 + 1  # alone, pairs, mapping
    assert all(line["who"] in lines[0] for line in table)
    assert (tmp_path / LINEAGE_FILE).read_bytes().startswith(b"\x89PNG")
    assert [line.split()[-1] for line in lines[1:]] == [str(tmp_path / CROSS_PLAY_FILE), str(tmp_path / LINEAGE_FILE)]


@pytest.mark.parametrize(("finished", "cross_play"), [(False, True), (True, False)])
def test_cross_play_waits_for_the_end_and_can_be_left_out(tmp_path: Path, finished: bool, cross_play: bool) -> None:
    trainer = exchanged(tmp_path, cross_play=cross_play)
    lines = report_several_policies(trainer, tmp_path, finished=finished, warn=no_warning)
    assert len(lines) == 1
    assert LINEAGE_FILE in lines[0]
    assert not (tmp_path / CROSS_PLAY_FILE).exists()


def test_single_policy_has_nothing_to_report(tmp_path: Path) -> None:
    trainer, _ = make_trainer(tmp_path)
    assert report_several_policies(trainer, tmp_path, finished=True, warn=no_warning) == []


def test_full_disk_costs_a_warning_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(reports, "atomic_write", full)
    warnings: list[str] = []
    trainer, _ = make_trainer(tmp_path, num_policies=2, n_evaluation_episodes=1)
    assert report_several_policies(trainer, tmp_path, finished=True, warn=warnings.append) == []
    assert warnings == ["a report of the policies could not be written (No space left on device)."]
