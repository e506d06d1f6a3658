"""Processes that play beside the learner: the same transitions, the same each time, and no process left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import psutil
import pytest

from reinforcement_learning.saving.checkpointing import numbered_checkpoint, read_checkpoint
from reinforcement_learning.training.trainer import Trainer
from reinforcement_learning.workers import rollout_workers
from reinforcement_learning.workers.rollout_workers import MAX_ENDED_WORKERS, RolloutWorkerError, RolloutWorkers
from tests.helpers.processes import ROLLOUT_WORKER, nothing_is_left, pids_of
from tests.helpers.tiny_training import UNGUIDED, MemorySink, make_trainer, stop_after
from utils.system import child_process
from utils.system.files import PROJECT_ROOT

# Without exploration and learning steps a transition depends on the level alone.
GREEDY: dict[str, Any] = {"eps_start": 0.0, "eps_end": 0.0, "buffer_size": 5000, "buffer_min_size": 5000} | UNGUIDED


def workers_of(trainer: Trainer) -> RolloutWorkers:
    assert isinstance(trainer.experience, RolloutWorkers)
    return trainer.experience


def rows_in_any_order(trainer: Trainer) -> list[bytes]:
    """The transitions of a training, each as its bytes, sorted."""
    arrays = trainer.population.learners[0].buffer.rows().values()
    return sorted(b"".join(row.tobytes() for row in rows) for rows in zip(*arrays, strict=True))


def levels_played(sink: MemorySink, decay: float) -> list[int]:
    epsilons = np.array([row["training/epsilon"] for row in sink.rows if "training/epsilon" in row])
    return np.round(np.log(epsilons) / np.log(decay)).astype(int).tolist()


def call_once(when: Callable[[], bool], what: Callable[[], None]) -> Callable[[], bool]:
    """A ``stop_requested`` that does something at the first moment that fits, and never says yes."""
    done = False

    def asked() -> bool:
        nonlocal done
        if not done and when():
            done = True
            what()
        return False

    return asked


def state_of(trainer: Trainer) -> dict[str, Any]:
    return {
        "network": trainer.population.learners[0].policy.state_dict()["q_network"],
        "buffer": trainer.population.learners[0].buffer.rows(),
    }


def assert_same(first: dict[str, Any], second: dict[str, Any]) -> None:
    for part in first:
        for name in first[part]:
            np.testing.assert_array_equal(first[part][name], second[part][name], err_msg=f"{part} {name}")


class TestTransitions:
    @pytest.mark.parametrize("simulator", ["compiled", "flatland"])
    def test_are_those_of_a_training_in_one_process(self, tmp_path: Path, simulator: str) -> None:
        """With weights that are not those a new policy has, of levels made by whomever."""
        options = {"n_episodes": 9, "num_envs": 2, "seed": 4, "simulator": simulator, **GREEDY, **UNGUIDED}
        trained, _ = make_trainer(tmp_path / "trained", n_episodes=12, eps_decay=0.8, seed=5, **UNGUIDED)
        trained.run()
        trainers = [make_trainer(tmp_path / str(n), num_workers=n, **options) for n in (0, 2)]
        for trainer, _ in trainers:
            trainer.population.learners[0].policy.load_state_dict(trained.population.learners[0].policy.state_dict())
            assert trainer.run()
        (local, local_sink), (apart, apart_sink) = trainers
        assert local.population.learners[0].buffer.n_added == apart.population.learners[0].buffer.n_added > 100
        assert rows_in_any_order(local) == rows_in_any_order(apart)
        scores = [
            sorted(row["training/score"] for row in s.rows if "training/score" in row) for s in (local_sink, apart_sink)
        ]
        assert scores[0] == scores[1]
        fresh, _ = make_trainer(tmp_path / "fresh", **options)
        fresh.run()
        assert rows_in_any_order(fresh) != rows_in_any_order(apart)

    def test_of_demonstrations_are_those_of_a_training_in_one_process(self, tmp_path: Path) -> None:
        options = GREEDY | {"n_episodes": 6, "num_envs": 2, "seed": 4}
        options |= {"feature_set": "tree_plan", "safe_moves": True, "demonstrations": 1.0}
        trainers = [make_trainer(tmp_path / str(n), num_workers=n, **options)[0] for n in (0, 1)]
        rows = []
        for trainer in trainers:
            assert trainer.run()
            buffer = trainer.population.learners[0].buffer.rows()
            shown = buffer["shown"] >= 0
            assert shown.any()
            rows.append(sorted(row.tobytes() for row in buffer["observations"][shown]))
        assert rows[0] == rows[1]


class TestTraining:
    OPTIONS: ClassVar[dict[str, Any]] = {
        "n_episodes": 24,
        "num_workers": 2,
        "num_envs": 3,
        "seed": 2,
        "eps_decay": 0.9,
        "eps_end": 1e-9,
        "checkpoint_interval": 8,
        "update_every": 8,
        "save_replay_buffer": True,
        "buffer_size": 20_000,
    }

    @pytest.fixture(scope="class")
    def finished(self, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, MemorySink]:
        with nothing_is_left():
            trainer, sink = make_trainer(tmp_path_factory.mktemp("finished"), **self.OPTIONS)
            assert trainer.run()
        return trainer, sink

    def test_each_level_is_played_once(self, finished: tuple[Trainer, MemorySink]) -> None:
        trainer, sink = finished
        assert sorted(levels_played(sink, 0.9)) == list(range(24))
        assert [row["episode"] for row in sink.rows if "training/score" in row] == list(range(1, 25))
        assert trainer.experience.next_level == 24
        assert trainer.experience.unfinished() == []

    def test_learning_steps_keep_their_ratio(self, finished: tuple[Trainer, MemorySink]) -> None:
        """One per ``update_every`` transitions, but for the round that fills the buffer."""
        trainer, _ = finished
        assert trainer.population.learners[0].policy.learning_steps > 50
        assert (
            0
            <= trainer.population.learners[0].buffer.n_added - 8 * trainer.population.learners[0].policy.learning_steps
            < 600
        )

    def test_parts_of_the_work_are_booked(self, finished: tuple[Trainer, MemorySink]) -> None:
        seconds = finished[0].stopwatch.seconds
        assert all(seconds[part] > 0 for part in ("reset", "step", "observation", "inference", "learn"))

    def test_is_the_same_whoever_is_slow(self, tmp_path: Path, finished: tuple[Trainer, MemorySink]) -> None:
        def pause() -> None:
            pid = pids_of(ROLLOUT_WORKER)[1]
            os.kill(pid, signal.SIGSTOP)
            threading.Timer(0.5, os.kill, (pid, signal.SIGCONT)).start()

        stop = call_once(lambda: trainer.episode > 0, pause)
        trainer, sink = make_trainer(tmp_path, stop_requested=stop, **self.OPTIONS)
        assert trainer.run()
        assert_same(state_of(trainer), state_of(finished[0]))
        wanted = [row["training/score"] for row in finished[1].rows if "training/score" in row]
        assert [row["training/score"] for row in sink.rows if "training/score" in row] == wanted

    @pytest.fixture(scope="class")
    def stopped(self, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[int]]:
        """A checkpoint from the middle, and the levels that were played before it."""
        base = tmp_path_factory.mktemp("stopped")
        trainer, sink = make_trainer(base, stop_requested=lambda: trainer.episode >= 9, **self.OPTIONS)
        assert not trainer.run()
        content = read_checkpoint(numbered_checkpoint(trainer.folders.checkpoints, trainer.episode))
        return content, levels_played(sink, 0.9)

    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_resumed_with_another_number_of_workers(
        self, tmp_path: Path, stopped: tuple[dict[str, Any], list[int]], num_workers: int
    ) -> None:
        content, levels = stopped
        assert len(content["unfinished"]) >= 6
        resumed, sink = make_trainer(tmp_path, **self.OPTIONS | {"num_workers": num_workers})
        resumed.state.load_state_dict(content)
        resumed.population.learners[0].buffer.restore(content["replay_buffers"][0])
        assert len(resumed.state.state_dict()["unfinished"]) == len(content["unfinished"])
        assert resumed.run()
        assert sorted(levels + levels_played(sink, 0.9)) == list(range(24))

    def test_resumed_with_fewer_episodes(self, tmp_path: Path, stopped: tuple[dict[str, Any], list[int]]) -> None:
        content, levels = stopped
        resumed, _ = make_trainer(tmp_path, **self.OPTIONS | {"n_episodes": len(levels) + 2})
        resumed.state.load_state_dict(content)
        assert resumed.run()
        assert resumed.episode == len(levels) + 2

    def test_goes_on_from_a_training_in_one_process(self, tmp_path: Path) -> None:
        options = self.OPTIONS | {"num_workers": 0}
        stopped, first_sink = make_trainer(tmp_path, stop_requested=stop_after(20), **options)
        assert not stopped.run()
        content = read_checkpoint(numbered_checkpoint(stopped.folders.checkpoints, stopped.episode))
        assert all(len(episode["actions"]) for episode in content["unfinished"])
        resumed, sink = make_trainer(tmp_path, **self.OPTIONS)
        resumed.state.load_state_dict(content)
        assert resumed.run()
        assert sorted(levels_played(first_sink, 0.9) + levels_played(sink, 0.9)) == list(range(24))

    def test_killed_worker_is_replaced_and_its_levels_are_played(self, tmp_path: Path) -> None:
        stop = call_once(lambda: trainer.episode > 3, lambda: os.kill(pids_of(ROLLOUT_WORKER)[0], signal.SIGKILL))
        trainer, sink = make_trainer(tmp_path, stop_requested=stop, **self.OPTIONS)
        assert trainer.run()
        assert sorted(levels_played(sink, 0.9)) == list(range(24))
        (said,) = [text for text in sink.messages if "warning" in text]
        assert "exit code -9; another takes its place" in said

    def test_worker_that_does_not_answer_is_replaced(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def halt() -> None:
            os.kill(pids_of(ROLLOUT_WORKER)[0], signal.SIGSTOP)
            monkeypatch.setattr(rollout_workers, "SECONDS_FOR_A_ROUND", 0)

        halt_once = call_once(lambda: trainer.episode > 3, halt)

        def stop() -> bool:
            if any("another takes its place" in text for text in sink.messages):
                monkeypatch.undo()  # the other one gets its time
            return halt_once()

        options = self.OPTIONS | {"num_workers": 1}
        trainer, sink = make_trainer(tmp_path, stop_requested=stop, **options)
        assert trainer.run()
        assert sorted(levels_played(sink, 0.9)) == list(range(24))
        (said,) = [text for text in sink.messages if "warning" in text]
        assert "another takes its place" in said

    def test_those_that_end_again_and_again_end_the_training_with_a_checkpoint(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(child_process, "BOOTSTRAP", "import sys; sys.exit(7)")
        trainer, sink = make_trainer(tmp_path, **self.OPTIONS)
        with pytest.raises(RolloutWorkerError, match="again and again, the last one with exit code 7"):
            trainer.run()
        assert len(sink.messages) == MAX_ENDED_WORKERS - 1
        unfinished = read_checkpoint(numbered_checkpoint(tmp_path / "checkpoints", 0))["unfinished"]
        levels = [episode["level_number"] for episode in unfinished]
        assert levels == list(range(trainer.experience.next_level))

    def test_python_that_cannot_be_started(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        trainer, _ = make_trainer(tmp_path, **self.OPTIONS)
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        with pytest.raises(RolloutWorkerError, match="cannot be started"):
            trainer.run()


class TestProcesses:
    @pytest.mark.parametrize("moment", ["starting", "playing"])
    def test_end_when_the_learner_is_killed(self, tmp_path: Path, moment: str) -> None:
        script = """
import sys, time
from pathlib import Path
from tests.helpers.processes import ROLLOUT_WORKER, pids_of, nothing_is_left
from tests.helpers.tiny_training import make_trainer

trainer, _ = make_trainer(Path(sys.argv[1]), num_workers=2, num_policies=2, n_episodes=1000)
trainer.experience.play()
while sys.argv[2] == "playing" and not trainer.population.learners[0].buffer.n_added:
    trainer.experience.play()
print(flush=True)
time.sleep(60)
"""
        command = [sys.executable, "-c", script, str(tmp_path), moment]
        environment = os.environ | {"PYTHONPATH": str(PROJECT_ROOT)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as learner:
            assert learner.stdout is not None
            learner.stdout.readline()
            pids = pids_of(ROLLOUT_WORKER, learner.pid)
            assert len(pids) == 2
            learner.kill()
            learner.wait()
            end = time.monotonic() + 10
            while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
                assert time.monotonic() < end
                time.sleep(0.02)
