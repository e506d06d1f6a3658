"""A GPU that fails: before the training, in its middle, and while it is evaluated."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from reinforcement_learning import multi_agent_training
from reinforcement_learning.learning import learner as learner_module
from reinforcement_learning.learning.step_graph import GraphedStep
from reinforcement_learning.playing.experience import ExperienceError
from reinforcement_learning.saving.checkpointing import read_checkpoint
from reinforcement_learning.training.trainer import Trainer
from tests.helpers.tiny_training import SMALL, make_trainer
from utils.system.device_errors import describe_device_error, is_device_error

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79 GiB"),
    torch.AcceleratorError("CUDA error: unspecified launch failure\nSearch for `cudaErrorLaunchFailure' in https"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle)`"),
]


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learners go the way of those on GPUs, with all tensors on the CPU."""
    monkeypatch.setattr(learner_module, "learns_on_gpu", lambda device: True)


def fails_after(n_calls: int, error: Exception, otherwise: Callable[..., Any]) -> Callable[..., Any]:
    """Does what ``otherwise`` does, and fails from the call behind the ``n_calls``-th on."""
    n = 0

    def call(*arguments: Any, **named: Any) -> Any:
        nonlocal n
        n += 1
        if n > n_calls:
            raise error
        return otherwise(*arguments, **named)

    return call


def test_which_errors_are_a_device_s() -> None:
    assert all(is_device_error(error) for error in ERRORS)
    assert not any(is_device_error(error) for error in (RuntimeError("size mismatch"), ValueError("CUDA error")))
    assert [describe_device_error(error) for error in ERRORS[:2]] == [
        "OutOfMemoryError: CUDA out of memory",
        "AcceleratorError: CUDA error: unspecified launch failure",
    ]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("num_policies", [1, 2])
def test_in_mid_training_what_was_copied_is_saved(
    error: Exception, num_policies: int, tmp_path: Path, on_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner_module, "BACKUP_EVERY", 3)
    trainer, _ = make_trainer(tmp_path, n_episodes=200, checkpoint_interval=200, num_policies=num_policies)
    monkeypatch.setattr(GraphedStep, "learn", fails_after(11, error, GraphedStep.learn))
    with pytest.raises(ExperienceError, match=r"a GPU has failed in mid-training \(.*\); what was learned on GPUs"):
        trainer.run()
    newest = trainer.checkpoints.newest
    assert newest is not None
    saved = read_checkpoint(newest)
    # of each policy what it had learned at a multiple of three steps
    assert [policy["learning_steps"] for policy in saved["policies"]] == [
        learner.learning_steps // 3 * 3 for learner in trainer.population.learners
    ]
    assert sum(learner.learning_steps for learner in trainer.population.learners) == 11
    assert saved["episode"] == trainer.episode > 0
    monkeypatch.undo()
    again, _ = make_trainer(tmp_path / "again", n_episodes=trainer.episode + 1, num_policies=num_policies)
    again.resume(newest, saved)
    assert again.run()


def test_while_losses_are_read_or_policies_evaluated(
    tmp_path: Path, on_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU's errors come out wherever something waits for it."""
    for number, method in enumerate(("evaluate", "_count")):
        trainer, _ = make_trainer(tmp_path / method, n_episodes=6)
        monkeypatch.setattr(trainer, method, fails_after(1 + 30 * number, ERRORS[1], getattr(trainer, method)))
        with pytest.raises(ExperienceError, match="unspecified launch failure") as told:
            trainer.run()
        assert told.value.saved


def test_other_errors_are_told_as_they_are(tmp_path: Path, on_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, _ = make_trainer(tmp_path, n_episodes=200)
    monkeypatch.setattr(GraphedStep, "learn", fails_after(2, RuntimeError("a fault"), GraphedStep.learn))
    with pytest.raises(RuntimeError, match=r"^a fault$"):
        trainer.run()


def test_errors_of_a_device_are_not_blamed_on_a_network_of_the_users_own(
    tmp_path: Path, on_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, _ = make_trainer(tmp_path, n_episodes=200, network="tests.helpers.own_code:Linear")
    forward = type(trainer.population.learners[0].policy.q_network).forward
    monkeypatch.setattr(
        type(trainer.population.learners[0].policy.q_network), "forward", fails_after(40, ERRORS[0], forward)
    )
    with pytest.raises(ExperienceError, match="a GPU has failed"):
        trainer.run()


def train(folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> int:
    """The command line, with a small training."""
    monkeypatch.chdir(folder)
    given = SMALL | {"n_episodes": 60, "checkpoint_interval": 60, "jsonl": False, "tensorboard": False} | options
    given |= {"checkpoint_dir": "c", "output_dir": "o", "replay_buffer_dir": "b", "learning_curve": False}
    return multi_agent_training.main([f"--{name}={value}" for name, value in given.items()])


def test_exit_codes(
    tmp_path: Path, on_gpu: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(GraphedStep, "learn", fails_after(5, ERRORS[1], GraphedStep.learn))
        assert train(tmp_path, monkeypatch) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("multi_agent_training.py: error: a GPU has failed in mid-training")
    assert said.endswith("is lost. A checkpoint was saved.")
    with monkeypatch.context() as patched:
        patched.setattr(torch, "zeros_like", fails_after(0, ERRORS[0], torch.zeros_like))
        assert train(tmp_path, monkeypatch) == 2
    assert "choose a smaller --buffer_size" in capsys.readouterr().err.splitlines()[-1]
    with monkeypatch.context() as patched:
        patched.setattr(GraphedStep, "rehearse", fails_after(0, ERRORS[1], GraphedStep.rehearse))
        assert train(tmp_path, monkeypatch) == 2
    assert "cpu cannot be used (AcceleratorError: CUDA error" in capsys.readouterr().err.splitlines()[-1]
    assert len(list(tmp_path.glob("c/*"))) == 1  # what is refused leaves no folders


def test_nobody_looks_for_gpus_where_none_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def looked() -> int:
        raise AssertionError("a GPU was looked for")

    def no_training(self: Trainer) -> bool:
        raise ExperienceError("this far")

    monkeypatch.setattr(multi_agent_training, "available_gpus", looked)
    monkeypatch.setattr(torch.cuda, "is_available", looked)
    monkeypatch.setattr(torch.cuda, "device_count", looked)
    monkeypatch.setattr(Trainer, "run", no_training)
    assert train(tmp_path, monkeypatch) == 1
