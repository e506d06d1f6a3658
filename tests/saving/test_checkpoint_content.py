"""Checkpoints that can be read and hold something else than they should: one sentence, and nothing of them is used."""

import copy
import math
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from reinforcement_learning.saving.checkpointing import (
    CheckpointError,
    check_resumable,
    latest_checkpoint,
    load_policy,
    numbered_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from tests.helpers.tiny_training import SMALL, make_trainer, stop_after
from utils.observation.feature_sets import FEATURE_SETS

WEIGHT = ("policies", 0, "average_network", "trunk.0.bias")
GONE = "gone"  # of the same name in each process that runs tests


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of a training that was stopped in the middle of two episodes, when it had learned."""
    base = tmp_path_factory.mktemp("stopped")
    trainer, _ = make_trainer(base, num_envs=2, n_episodes=30, stop_requested=stop_after(100))
    trainer.run()
    content = read_checkpoint(numbered_checkpoint(trainer.folders.checkpoints, trainer.episode))
    assert content["unfinished"]
    assert content["policies"][0]["optimizer"]["state"]
    return content


def changed(content: dict[str, Any], where: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """A copy with another value at a place in it, or with nothing there."""
    content = copy.deepcopy(content)
    part: Any = content
    for key in where[:-1]:
        part = part[key]
    if value is GONE:
        del part[where[-1]]
    else:
        part[where[-1]] = value
    return content


MALFORMED: list[tuple[tuple[Any, ...], Any]] = [
    (("config",), [1, 2]),
    (("config", "hidden_size"), "wide"),
    (("config", "safe_moves"), 1),
    (("config", "gamma"), "high"),
    (("config", "num_policies"), 2),
    (("feature_set",), "tree"),
    (("feature_set", "version"), None),
    (("policies",), {}),
    (("policies",), []),
    (("policies", 0), None),
    (("policies", 0, "q_network"), GONE),
    (("policies", 0, "optimizer"), []),
    (("policies", 0, "acting"), [{"learning_steps": 1}]),
    (("policies", 0, "learning_steps"), -1),
    (("policies", 0, "losses"), torch.zeros(1).expand(10**12)),
    (("policies", 0, "sampling"), None),
    (WEIGHT, [0.0]),
    (WEIGHT, torch.zeros(16).to_sparse()),
    (("episode",), "many"),
    (("episode",), 10**100),
    (("next_level",), None),
    (("counters", "train_steps"), GONE),
    (("smoothed",), None),
    (("smoothed", "training/score"), 0.5),
    (("best",), None),
    (("best",), GONE),
    (("last_evaluation",), [0.5]),
    (("seconds_by_part",), {"learn": "long"}),
    (("exchanges",), None),
    (("past_selves", "networks"), [None]),
    (("trains_driven",), [0.5]),
    (("wandb_run_id",), 7),
    (("replay_buffers",), "buffer.npz"),
    (("unfinished",), [None]),
    (("unfinished", 0, "slot"), 10**9),
    (("unfinished", 0, "level_number"), 10**9),
    (("unfinished", 0, "actions"), torch.full((3, 2), 77, dtype=torch.int8)),
    (("unfinished", 0, "actions"), torch.zeros(3, 2)),
    (("unfinished", 0, "train_settings"), {}),
    (("unfinished", 0, "train_settings", "epsilon"), torch.zeros(7)),
    (("unfinished", 0, "train_settings", "demonstration"), torch.zeros(2, dtype=torch.int64)),
    (("unfinished", 0, "train_settings", "policy_of_train"), torch.ones(2, dtype=torch.int64)),
]


class TestMalformed:
    @pytest.mark.parametrize(("where", "value"), MALFORMED, ids=lambda part: str(part)[:40])
    def test_is_refused_and_passed_over(
        self, tmp_path: Path, whole: dict[str, Any], where: tuple[Any, ...], value: Any
    ) -> None:
        older, newer = (tmp_path / f"episode_000000{i}.pt" for i in (1, 2))
        write_checkpoint(older, whole)
        write_checkpoint(newer, changed(whole, where, value))
        for path, seconds in ((older, 1000), (newer, 2000)):
            os.utime(path, (seconds, seconds))
        warnings: list[str] = []
        assert latest_checkpoint(tmp_path, warnings.append) == older
        (warning,) = warnings
        assert str(newer) in warning
        assert "\n" not in warning
        assert len(warning) < 400

    def test_format_of_another_type(self, tmp_path: Path) -> None:
        torch.save({"format_version": torch.zeros(2)}, tmp_path / "x.pt")
        with pytest.raises(CheckpointError, match="not a checkpoint of this kit"):
            read_checkpoint(tmp_path / "x.pt")

    @pytest.mark.parametrize("number", [math.nan, math.inf])
    @pytest.mark.parametrize("network", ["q_network", "target_network", "average_network"])
    def test_weights_that_are_no_numbers(
        self, tmp_path: Path, whole: dict[str, Any], network: str, number: float
    ) -> None:
        path, where = tmp_path / "x.pt", ("policies", 0, network, "trunk.0.bias")
        weights = whole["policies"][0][network]["trunk.0.bias"].clone()
        weights[3] = number
        write_checkpoint(path, changed(whole, where, weights))
        with pytest.raises(CheckpointError, match=f"damaged: policies/0/{network}/trunk.0.bias holds NaN or infinity"):
            read_checkpoint(path)
        if network == "average_network":
            with pytest.raises(CheckpointError, match="holds NaN or infinity"):
                load_policy(path)


class TestOnTrial:
    @pytest.mark.parametrize(
        ("where", "value"),
        [
            (("policies", 0, "exploration", "bit_generator"), "MT19937"),
            (("policies", 0, "sampling", "state"), {}),
            (("policies", 0, "optimizer", "state", 0, "exp_avg"), torch.zeros(3)),
            (("policies", 0, "optimizer", "state", 0, "exp_avg_sq"), GONE),
            (("policies", 0, "optimizer", "state", 1, "exp_avg"), torch.full((16,), math.nan)),
            (("policies", 0, "optimizer", "state", 99), {"step": torch.ones(())}),
            (("policies", 0, "target_network"), {}),
            (("policies", 0, "q_network", "trunk.0.bias"), torch.zeros(7)),
            (("past_selves", "networks"), [{"layer": torch.zeros(2)}]),
        ],
        ids=lambda part: str(part)[:40],
    )
    def test_a_training_cannot_go_on_from_it(
        self, tmp_path: Path, whole: dict[str, Any], where: tuple[Any, ...], value: Any
    ) -> None:
        trainer, _ = make_trainer(tmp_path)
        path = tmp_path / "x.pt"
        write_checkpoint(path, changed(whole, where, value))
        content = read_checkpoint(path)
        with pytest.raises(CheckpointError, match="is damaged"):
            check_resumable(content, path, trainer.config, FEATURE_SETS[SMALL["feature_set"]])

    def test_what_is_tried_out_stays_as_it_is(self, tmp_path: Path, whole: dict[str, Any]) -> None:
        before = copy.deepcopy(whole)
        check_resumable(whole, "x.pt", make_trainer(tmp_path)[0].config, FEATURE_SETS[SMALL["feature_set"]])
        for network, weights in before["policies"][0]["q_network"].items():
            assert weights.equal(whole["policies"][0]["q_network"][network])
        assert before["policies"][0]["exploration"] == whole["policies"][0]["exploration"]

    def test_parts_that_do_not_belong_together(self, tmp_path: Path, whole: dict[str, Any]) -> None:
        path = tmp_path / "x.pt"
        content = changed(whole, ("smoothed", "training/score"), GONE)
        with pytest.raises(CheckpointError, match="do not belong together"):
            make_trainer(tmp_path)[0].resume(path, content)


class TestFiles:
    def test_file_that_unpacks_to_more_than_its_size(self, tmp_path: Path, whole: dict[str, Any]) -> None:
        plain, packed = tmp_path / "plain.pt", tmp_path / "packed.pt"
        write_checkpoint(plain, whole)
        with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
            for name in source.namelist():
                target.writestr(name, source.read(name))
        with pytest.raises(CheckpointError, match="is compressed"):
            read_checkpoint(packed)

    def test_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "x.pt")
        with pytest.raises(CheckpointError, match="is no regular file"):
            read_checkpoint(tmp_path / "x.pt")

    def test_name_that_is_too_long(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="File name too long"):
            read_checkpoint(tmp_path / ("x" * 300))

    def test_what_may_not_be_read_is_not_called_damaged(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: Any) -> None:
            raise PermissionError(13, "Permission denied")

        path = tmp_path / "x.pt"
        path.write_bytes(b"")
        monkeypatch.setattr(Path, "open", refuse)
        with pytest.raises(CheckpointError, match="Permission denied"):
            read_checkpoint(path)
