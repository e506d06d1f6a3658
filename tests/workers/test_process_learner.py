"""Learner processes: the training of one process to the bit, what is told where they fail, and none is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from reinforcement_learning import multi_agent_training
from reinforcement_learning.dueling_q_network import NetworkError
from reinforcement_learning.learning import learner as learner_module
from reinforcement_learning.learning.replay_buffer import ReplayBufferError
from reinforcement_learning.playing.experience import ExperienceError
from reinforcement_learning.saving.checkpointing import numbered_checkpoint, read_checkpoint
from reinforcement_learning.training.trainer import Trainer
from reinforcement_learning.workers import learner_process
from reinforcement_learning.workers.learner_process import LearnerProcessError
from tests.helpers.processes import LEARNER_PROCESS, nothing_is_left, pids_of
from tests.helpers.rows import made_up_rows
from tests.helpers.tiny_training import SMALL, MemorySink, make_trainer
from tests.helpers.trainings import assert_same
from utils.system import child_process
from utils.system.files import PROJECT_ROOT

TWO = ["cpu", "cpu:1", "cpu"]  # devices of three policies
OPTIONS: dict[str, Any] = {
    "training_env_config": "Test_0",
    "n_episodes": 14,
    "num_policies": 3,
    "num_envs": 2,
    "seed": 4,
    "eps_decay": 0.8,
    "checkpoint_interval": 4,
    "save_replay_buffer": True,
    "buffer_size": 600,
    "learning_rate_end_factor": 0.1,
}
POPULATION: dict[str, Any] = {
    "with_pbt": True,
    "pbt_start_episodes": 0,
    "pbt_period_episodes": 4,
    "pbt_min_errors": 0.0,
    "pbt_min_gap": 0.0,
    "partner_snapshot_prob": 0.3,
    "partner_snapshot_every": 3,
    "n_step": 3,
    "save_replay_buffer": True,
}
SYNCHRONOUS: dict[str, Any] = {"policy_mode": "synchronous", "num_envs": 3}


def left_by(trainer: Trainer) -> dict[str, Any]:
    """The newest checkpoint and its replay buffers, without clocks and names of files."""
    checkpoint = trainer.checkpoints.newest
    assert checkpoint is not None
    content = read_checkpoint(checkpoint)
    buffers = [dict(np.load(path)) for path in content["replay_buffers"]]
    for name in ("seconds", "seconds_by_part", "written", "replay_buffers"):
        del content[name]
    return content | {"buffers": buffers}


def train(folder: Path, **options: Any) -> tuple[Trainer, MemorySink]:
    trainer, sink = make_trainer(folder, **OPTIONS | options)
    assert trainer.run()
    return trainer, sink


def stopped_in_the_middle(folder: Path, **options: Any) -> tuple[Trainer, MemorySink]:
    """With other episodes under way."""
    trainer, sink = make_trainer(folder, stop_requested=lambda: trainer.episode >= 6, **options)
    assert not trainer.run()
    assert trainer.experience.unfinished()
    assert trainer.episode < OPTIONS["n_episodes"]
    return trainer, sink


def in_learner_processes(monkeypatch: pytest.MonkeyPatch, patch: str) -> None:
    """Has learner processes do something before they begin."""
    bootstrap = child_process.BOOTSTRAP.replace("main()\n", f"{patch}\nmain()\n")
    monkeypatch.setattr(child_process, "BOOTSTRAP", bootstrap)


ON_GPU = """
from reinforcement_learning.learning import learner
learner.learns_on_gpu = lambda device: True
"""
FAILING = """
import torch
from reinforcement_learning.learning import learner, step_graph
learner.BACKUP_EVERY = 3
learn, n = step_graph.GraphedStep.learn, 0
def fail(*arguments):
    global n
    n += 1
    if n > 11:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")
    return learn(*arguments)
step_graph.GraphedStep.learn = fail
"""
WAITING = """
import os, time
from reinforcement_learning.learning import hosted_learner, learner
class Waiting(learner.LocalLearner):
    def __init__(self, config, features, index, device):
        super().__init__(config, features, index, device)
        self.waits = index == 0
    def learn(self):
        while self.waits and not os.path.exists({!r}):
            time.sleep(0.01)
        super().learn()
hosted_learner.LocalLearner = Waiting
"""


class TestSameTraining:
    @pytest.mark.parametrize(
        "options",
        [POPULATION, POPULATION | {"num_workers": 2}, SYNCHRONOUS],
        ids=["population", "population with workers", "synchronous"],
    )
    def test_to_the_bit(self, options: dict[str, Any], tmp_path: Path) -> None:
        """Weights, what the optimizer keeps, counters, replay buffers and all rows of metrics."""
        here, sink_here = train(tmp_path / "here", **options)
        with nothing_is_left():
            apart, sink_apart = train(tmp_path / "apart", devices=TWO, **options)
        assert min(learner.learning_steps for learner in here.population.learners) > 10
        kinds = [kind for exchange in here.population.exchanges for kind in exchange["kinds"]]
        assert ("replaced" in kinds) == ("with_pbt" in options)
        assert apart.stopwatch.seconds["learn"] > 0.01  # that of the processes
        assert_same(left_by(apart), left_by(here))
        assert_same(sink_apart.rows, sink_here.rows)
        for ours, theirs in zip(apart.population.learners, here.population.learners, strict=True):
            assert_same(
                ours.policy.evaluation_policy().network.state_dict(), theirs.policy.average_network.state_dict()
            )
            assert len(ours.buffer) == len(theirs.buffer)

    def test_with_what_acts_behind_a_gpu(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Weights some steps old, on their way to the CPU, in both."""
        options = POPULATION | {"broadcast_every": 3}
        with monkeypatch.context() as patched:
            patched.setattr(learner_module, "learns_on_gpu", lambda device: True)
            here, sink_here = train(tmp_path / "here", **options)
        in_learner_processes(monkeypatch, ON_GPU)
        apart, sink_apart = train(tmp_path / "apart", devices=TWO, **options)
        assert_same(left_by(apart), left_by(here))
        assert_same(sink_apart.rows, sink_here.rows)

    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_stopped_and_resumed(self, num_workers: int, tmp_path: Path) -> None:
        options = OPTIONS | POPULATION | {"num_workers": num_workers}
        found = []
        for devices in (None, TWO):
            folder = tmp_path / str(len(found))
            stopped, first_sink = stopped_in_the_middle(folder, devices=devices, **options)
            checkpoint = numbered_checkpoint(stopped.folders.checkpoints, stopped.episode)
            resumed, sink = make_trainer(folder, devices=devices, **options)
            notes = resumed.resume(checkpoint, read_checkpoint(checkpoint))
            assert sum(note.startswith("Restored ") for note in notes) == 3
            assert resumed.run()
            found.append((left_by(resumed), first_sink.rows + sink.rows))
        assert_same(found[1], found[0])


def test_devices_learn_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes its time does not hold up the other."""
    in_learner_processes(monkeypatch, WAITING.format(str(tmp_path / "go_on")))
    trainer, _ = make_trainer(tmp_path, devices=["cpu", "cpu:1"], **OPTIONS | {"num_policies": 2})
    rows = made_up_rows(200, trainer.feature_set.n_own_features)
    first, second = trainer.population.learners
    for learner in (first, second):
        learner.add(rows)
    trainer.population.learn()
    assert second.learning_steps == 10  # of 200 transitions the first 32 only fill the replay buffer
    (tmp_path / "go_on").touch()
    assert first.learning_steps == 10
    trainer.close()


class TestFailures:
    def test_killed_process_ends_the_training(self, tmp_path: Path) -> None:
        def kill() -> bool:
            if trainer.state.evaluated_episode >= 4 and len(pids := pids_of(LEARNER_PROCESS)) == 2:
                os.kill(pids[1], signal.SIGKILL)
            return False

        trainer, _ = make_trainer(tmp_path, devices=TWO, stop_requested=kill, num_workers=1, **OPTIONS)
        with pytest.raises(LearnerProcessError, match=r"of cpu:1 \(policies 1\) has ended with exit code -9;") as told:
            trainer.run()
        assert not told.value.saved
        assert pids_of("reinforcement_learning.workers") == []
        newest = trainer.checkpoints.newest
        assert newest is not None
        resumed, _ = make_trainer(tmp_path, devices=TWO, **OPTIONS)
        resumed.resume(newest, read_checkpoint(newest))
        assert resumed.run()

    def test_process_that_does_not_answer_ends_the_training(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stop() -> bool:
            if trainer.state.evaluated_episode >= 4 and len(pids := pids_of(LEARNER_PROCESS)) == 2:
                monkeypatch.setattr(learner_process, "SECONDS_FOR_AN_ANSWER", 1)
                os.kill(pids[0], signal.SIGSTOP)
            return False

        trainer, _ = make_trainer(tmp_path, devices=TWO, stop_requested=stop, **OPTIONS)
        match = r"of cpu \(policies 0, 2\) has not answered for 1 seconds and was ended; what was learned since"
        with pytest.raises(LearnerProcessError, match=match) as told:
            trainer.run()
        assert not told.value.saved
        assert pids_of("reinforcement_learning.workers") == []

    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_network_that_breaks_is_told_as_in_this_process(self, num_workers: int, tmp_path: Path) -> None:
        options = OPTIONS | {"network": "tests.helpers.own_code:BreaksLater", "num_workers": num_workers}
        options |= {"partner_snapshot_prob": 0.3, "partner_snapshot_every": 1}  # which wants the newest weights
        trainer, _ = make_trainer(tmp_path, devices=TWO, **options)
        with nothing_is_left(), pytest.raises(NetworkError, match=r"BreaksLater' fails on .*no idea; own_code") as told:
            trainer.run()
        assert told.value.saved
        newest = trainer.checkpoints.newest
        assert newest is not None
        content = read_checkpoint(newest)
        assert content["episode"] == trainer.episode
        # what is over is counted, and the rest is under way
        begun = len(content["unfinished"]) + content["episode"]
        assert begun == content["next_level"]

    def test_device_that_fails_leaves_what_was_copied(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        in_learner_processes(monkeypatch, ON_GPU + FAILING)
        options = OPTIONS | {"save_replay_buffer": False}
        trainer, _ = make_trainer(tmp_path, devices=TWO, **options)
        match = (
            r"a GPU has failed in mid-training \(AcceleratorError: CUDA error: unspecified launch failure\); what was"
        )
        with nothing_is_left(), pytest.raises(ExperienceError, match=match) as told:
            trainer.run()
        assert told.value.saved
        newest = trainer.checkpoints.newest
        assert newest is not None
        saved = read_checkpoint(newest)
        assert all(policy["learning_steps"] % 3 == 0 for policy in saved["policies"])
        assert any(policy["learning_steps"] > 0 for policy in saved["policies"])
        monkeypatch.undo()
        resumed, _ = make_trainer(tmp_path / "resumed", devices=TWO, **options)
        resumed.resume(newest, saved)
        assert resumed.run()

    def test_devices_that_fail_together(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the second one says is no obstacle to saving what was copied."""
        in_learner_processes(monkeypatch, ON_GPU + FAILING)
        trainer, _ = make_trainer(tmp_path, devices=TWO, **OPTIONS)
        population = trainer.population
        for learner in population.learners:
            learner.add(made_up_rows(400, trainer.feature_set.n_own_features))
        population.learn()
        with pytest.raises(torch.AcceleratorError, match="unspecified launch failure") as told:
            population.fetch()
        population.lose_devices(told.value)
        population.fetch()
        # the first one was asked before, and this GPU is there in truth
        assert [policy["learning_steps"] for policy in population.state_dict()["policies"]] == [11, 9, 0]
        trainer.close()

    def test_refused_before_training(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """With the sentence of a training in one process, exit code 2 and no folder, and no process stays."""
        fails = "def fail(*_):\n    raise torch.AcceleratorError('CUDA error: out of order')\n"
        in_learner_processes(monkeypatch, f"{ON_GPU}\nimport torch\n{fails}\nlearner.GraphedStep.rehearse = fail")
        with nothing_is_left():
            assert run_command(tmp_path, monkeypatch, devices="cpu:0,cpu:1") == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert said == (
            "multi_agent_training.py: error: cpu cannot be used (AcceleratorError: CUDA error: out of order)."
        )
        assert not list(tmp_path.glob("c/*"))

    def test_resume_that_fails_leaves_no_process(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with nothing_is_left():
            code = run_command(tmp_path, monkeypatch, devices="cpu:0,cpu:1", restore_replay_buffer=__file__)
        assert code == 2
        assert "is not a saved replay buffer" in capsys.readouterr().err.splitlines()[-1]

    def test_replay_buffers_that_cannot_be_read_or_written(self, tmp_path: Path) -> None:
        trainer, _ = make_trainer(tmp_path, devices=TWO, **OPTIONS)
        buffer = trainer.population.learners[1].buffer
        with pytest.raises(ReplayBufferError, match=r"missing\.npz"):
            buffer.restore(tmp_path / "missing.npz")
        with pytest.raises(OSError, match="File exists") as told:
            buffer.save("/dev/null/buffer.npz")
        assert told.value.strerror == "File exists"
        trainer.close()

    def test_process_that_does_not_begin(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(child_process, "BOOTSTRAP", "import sys; sys.exit(7)")
        with nothing_is_left(), pytest.raises(LearnerProcessError, match=r"cpu \(policies 0, 2\) has ended .* code 7"):
            make_trainer(tmp_path, devices=TWO, **OPTIONS)
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        with pytest.raises(LearnerProcessError, match="cannot be started"):
            make_trainer(tmp_path, devices=TWO, **OPTIONS)


def run_command(folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> int:
    """The command line, with a small training of two policies."""
    monkeypatch.chdir(folder)
    given = SMALL | {"n_episodes": 2, "num_policies": 2, "jsonl": False, "tensorboard": False, "cross_play": False}
    given |= {"checkpoint_dir": "c", "output_dir": "o", "replay_buffer_dir": "b", "learning_curve": False} | options
    return multi_agent_training.main([f"--{name}={value}" for name, value in given.items()])


def test_first_line_says_how_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def looked() -> bool:
        raise AssertionError("a GPU was looked for")

    monkeypatch.setattr(torch.cuda, "is_available", looked)
    with nothing_is_left():
        assert run_command(tmp_path, monkeypatch, devices="cpu:0,cpu:1") == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.endswith("2 policies on cpu (policies 0); cpu:1 (policies 1), in 2 learner processes.")


def test_end_when_the_training_is_killed(tmp_path: Path) -> None:
    script = """
import sys, time
from pathlib import Path
from tests.helpers.tiny_training import make_trainer

trainer, _ = make_trainer(Path(sys.argv[1]), devices=["cpu", "cpu:1"], num_policies=2, n_episodes=1000)
while not trainer.population.learners[1].learning_steps:
    trainer.play_and_learn()
print(flush=True)
time.sleep(60)
"""
    environment = os.environ | {"PYTHONPATH": str(PROJECT_ROOT)}
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as training:
        assert training.stdout is not None
        training.stdout.readline()
        pids = pids_of(LEARNER_PROCESS, training.pid)
        assert len(pids) == 2
        training.kill()
        training.wait()
        end = time.monotonic() + 10
        while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
            assert time.monotonic() < end
            time.sleep(0.02)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_with_a_checkpoint(signal_number: int, tmp_path: Path) -> None:
    """Sent to the training alone, as by kill; a terminal reaches no other process of it either."""
    given = SMALL | {
        "n_episodes": 100_000,
        "num_policies": 2,
        "devices": "cpu:0,cpu:1",
        "evaluation_env_config": "Tiny",
    }
    given |= {"checkpoint_dir": "c", "output_dir": "o", "replay_buffer_dir": "b", "learning_curve": False}
    script = PROJECT_ROOT / "reinforcement_learning" / "multi_agent_training.py"
    command = [sys.executable, str(script), *(f"--{name}={value}" for name, value in given.items())]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as training:
        assert training.stdout is not None
        for line in training.stdout:
            if line.startswith("evaluation at episode 3"):
                break
        pids = pids_of(LEARNER_PROCESS, training.pid)
        training.send_signal(signal_number)
        training.communicate(timeout=60)
    assert training.returncode == 128 + signal_number
    assert len(pids) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids)
    (run,) = tmp_path.glob("c/*")
    checkpoints = sorted(run.glob("episode_*.pt"))
    assert len(read_checkpoint(checkpoints[-1])["policies"]) == 2
