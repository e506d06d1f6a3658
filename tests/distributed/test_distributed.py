"""Trainings on Ray: what is played, learned and saved is what the local mode plays, learns and saves."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from reinforcement_learning.playing.episode_rows import row_layout
from reinforcement_learning.saving.checkpointing import load_policies, numbered_checkpoint, read_checkpoint
from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.settings.devices import available_gpus
from reinforcement_learning.tracking.tensorboard_sink import layout
from reinforcement_learning.training.trainer import Trainer
from tests.helpers.mixtures import SEVERAL, check_rule, noted
from tests.helpers.processes import pids_of
from tests.helpers.tiny_training import UNGUIDED, MemorySink, make_trainer, stop_after

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")

from reinforcement_learning.distributed import answers, remote_learner  # noqa: E402
from reinforcement_learning.distributed.answers import ActorsError  # noqa: E402
from reinforcement_learning.distributed.local_ray import LocalRay  # noqa: E402
from reinforcement_learning.distributed.placement import place_learners  # noqa: E402
from reinforcement_learning.distributed.remote_learner import RemoteLearner  # noqa: E402
from reinforcement_learning.distributed.session import RaySession  # noqa: E402

ON_RAY: dict[str, Any] = {"async_rl": True, "num_envs": 3, "eps_decay": 0.9, "eps_end": 1e-9, "seed": 2}
# Test_0 has five trains. Without exploration and learning steps a transition depends on the level alone.
GREEDY: dict[str, Any] = {
    "training_env_config": "Test_0",
    "eps_start": 0.0,
    "eps_end": 0.0,
    "buffer_size": 5000,
    "buffer_min_size": 5000,
    "save_replay_buffer": True,
    **UNGUIDED,
}


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    """A Ray on this machine, which believes that there are two GPUs."""
    before = set(psutil.Process().children(recursive=True))
    with RaySession(TrainingConfig(async_rl=True), num_cpus=8, num_gpus=2) as n_gpus:
        assert n_gpus == available_gpus()  # which are this machine's
        yield
    assert not [child for child in set(psutil.Process().children(recursive=True)) - before if "ray" in child.name()]


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine actors may take a minute to start, which nobody need be told here."""
    monkeypatch.setattr(remote_learner, "SECONDS_WITHOUT_PROGRESS", 1e9)


def learner_of(trainer: Trainer, policy: int = 0) -> RemoteLearner:
    learner = trainer.population.learners[policy]
    assert isinstance(learner, RemoteLearner)
    return learner


def levels_played(sink: MemorySink, decay: float = 0.9) -> list[int]:
    epsilons = np.array([row["training/epsilon"] for row in sink.rows if "training/epsilon" in row])
    return np.round(np.log(epsilons) / np.log(decay)).astype(int).tolist()


def warnings_in(sink: MemorySink) -> list[str]:
    return [text for text in sink.messages if "warning" in text]


def saved_transitions(trainer: Trainer) -> list[list[bytes]]:
    """Of each policy's newest replay buffer the rows, each as its bytes, sorted."""
    content = read_checkpoint(numbered_checkpoint(trainer.folders.checkpoints, trainer.episode))
    buffers = []
    for path in content["replay_buffers"]:
        with np.load(path) as saved:
            arrays = [saved[name] for name in row_layout(0)]
        buffers.append(sorted(b"".join(row.tobytes() for row in rows) for rows in zip(*arrays, strict=True)))
    return buffers


class Stop:
    """A ``stop_requested`` that does one thing after the other, each at the first moment that fits."""

    def __init__(self, *steps: tuple[Callable[[], bool], Callable[[], None]]) -> None:
        self.steps = list(steps)

    def __call__(self) -> bool:
        if self.steps and self.steps[0][0]():
            self.steps.pop(0)[1]()
        return False


class TestSeveralPolicies:
    def test_transitions_are_those_of_the_local_mode_each_with_the_policy_that_acted(self, tmp_path: Path) -> None:
        options = GREEDY | {"num_policies": 2, "n_episodes": 6, "num_envs": 2, "checkpoint_interval": 6}
        local, local_sink = make_trainer(tmp_path / "local", **options)
        assert local.run()
        apart, apart_sink = make_trainer(tmp_path / "ray", async_rl=True, num_workers=2, **options)
        assert apart.run()
        assert min(map(len, saved_transitions(local))) > 100
        assert saved_transitions(apart) == saved_transitions(local)
        assert apart.population.trains_driven.tolist() == local.population.trains_driven.tolist()
        scores = [
            sorted(r["training/score"] for r in s.rows if "training/score" in r) for s in (local_sink, apart_sink)
        ]
        assert scores[0] == scores[1]
        assert len(load_policies(numbered_checkpoint(apart.folders.checkpoints, 6))[0]) == 2

    def test_learn_side_by_side_with_past_selves_and_exchanges(self, tmp_path: Path) -> None:
        options = ON_RAY | {
            "training_env_config": "Test_0",
            "num_policies": 2,
            "num_workers": 1,
            "n_episodes": 24,
            "checkpoint_interval": 12,
            "policy_mode": "asynchronous",
            "partner_snapshot_prob": 0.3,
            "partner_snapshot_every": 6,
            "with_pbt": True,
            "pbt_start_episodes": 0,
            "pbt_min_errors": 0.0,
            "pbt_period_episodes": 8,
            "pbt_min_gap": 0.0,
        }
        trainer, sink = make_trainer(tmp_path, **options)
        assert trainer.run()
        assert warnings_in(sink) == []
        assert min(learner.learning_steps for learner in trainer.population.learners) > 20
        assert trainer.population.past_selves.policies
        assert trainer.population.exchanges
        found = trainer.population.exchanges[-1]["hyperparameters"]
        content = read_checkpoint(numbered_checkpoint(trainer.folders.checkpoints, 24))
        assert [policy["hyperparameters"] for policy in content["policies"]] == found
        driven = sum(row.get("policy_00/training/trains_driven", 0) for row in sink.rows)
        assert driven > 0


class TestResume:
    def test_from_local_to_ray_and_back(self, tmp_path: Path) -> None:
        """Each level is played once, whoever begins it and whoever ends it, and learning goes on where it was."""
        options = ON_RAY | {"n_episodes": 30, "save_replay_buffer": True}
        first, first_sink = make_trainer(tmp_path, stop_requested=stop_after(150), **options | {"async_rl": False})
        assert not first.run()
        content = read_checkpoint(numbered_checkpoint(first.folders.checkpoints, first.episode))
        assert any(len(episode["actions"]) for episode in content["unfinished"])

        on_ray, ray_sink = make_trainer(tmp_path, stop_requested=lambda: on_ray.episode >= 18, **options)
        on_ray.state.load_state_dict(content)
        learner_of(on_ray).buffer.restore(content["replay_buffers"][0])
        assert len(learner_of(on_ray).buffer) == len(first.population.learners[0].buffer)
        assert not on_ray.run()
        steps = [trainer.population.learners[0].policy.learning_steps for trainer in (first, on_ray)]
        assert 0 < steps[0] < steps[1]

        content = read_checkpoint(numbered_checkpoint(on_ray.folders.checkpoints, on_ray.episode))
        assert content["policies"][0]["learning_steps"] == steps[1]
        last, last_sink = make_trainer(tmp_path, **options | {"async_rl": False})
        last.state.load_state_dict(content)
        last.population.learners[0].buffer.restore(content["replay_buffers"][0])
        assert last.run()
        assert last.population.learners[0].policy.learning_steps > steps[1]
        played = [level for sink in (first_sink, ray_sink, last_sink) for level in levels_played(sink)]
        assert sorted(played) == list(range(30))


class TestFaults:
    def test_killed_actors_are_replaced_and_every_level_is_played(self, tmp_path: Path) -> None:
        """A rollout actor, then the learner: nothing is lost but what was under way, and what was not saved."""
        before: list[int] = []

        def kill(kind: str) -> None:
            before.append(learner_of(trainer).learning_steps)
            os.kill(pids_of(kind)[0], signal.SIGKILL)

        stop = Stop(
            (lambda: trainer.episode >= 4, lambda: kill("ray::RolloutActor")),
            (lambda: trainer.state.evaluated_episode >= 12, lambda: kill("ray::HostedLearner")),
        )
        options = ON_RAY | {"n_episodes": 40, "num_workers": 2, "checkpoint_interval": 6, "save_replay_buffer": True}
        options |= {"learning_rate_end_factor": 0.5}
        trainer, sink = make_trainer(tmp_path, stop_requested=stop, **options)
        assert trainer.run()
        assert not stop.steps
        assert sorted(levels_played(sink)) == list(range(40))
        of_rollout, of_learner = warnings_in(sink)
        assert "a rollout actor has ended" in of_rollout
        assert "the learner of policy 0 has ended; another goes on from the last checkpoint" in of_learner
        resumed_at = int(of_learner.split(", after ")[1].split()[0])
        assert 0 < resumed_at <= before[1]
        assert learner_of(trainer).learning_steps > before[1]
        # it went on with the replay buffer of the checkpoint, so it learned from the first transitions that came
        assert learner_of(trainer).buffer.n_added > 500
        content = read_checkpoint(numbered_checkpoint(trainer.folders.checkpoints, 40))
        assert content["policies"][0]["learning_steps"] == learner_of(trainer).learning_steps
        # what it knows of the training's progress comes with what it learns from
        assert 0.5 <= content["policies"][0]["optimizer"]["param_groups"][0]["lr"] / 3e-4 < 0.7

    def test_actors_that_end_again_and_again_end_the_training(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from reinforcement_learning.distributed import remote_rollout

        class Broken:
            def __init__(self, task: Any) -> None:
                raise OSError("no such luck")

            def ready(self) -> None: ...

        monkeypatch.setattr(remote_rollout, "RolloutActor", Broken)
        trainer, sink = make_trainer(tmp_path, n_episodes=10, **ON_RAY)
        with pytest.raises(ActorsError, match=r"rollout actors end again and again \(OSError: no such luck\)\.$"):
            trainer.run()
        assert len(warnings_in(sink)) == 2
        assert read_checkpoint(numbered_checkpoint(tmp_path / "checkpoints", 0))["unfinished"] == []

    def test_learner_that_stands_still_is_named_and_holds_up_no_stop(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        steps: list[int] = []
        stopping = False

        def stop_requested() -> bool:
            nonlocal stopping
            if trainer.episode >= 8 and not stopping:
                stopping = True  # whoever waits for the learner asks again meanwhile
                trainer.population.fetch()
                steps.append(trainer.population.learners[0].policy.learning_steps)
                monkeypatch.setattr(remote_learner, "SECONDS_WITHOUT_PROGRESS", 0.1)
                monkeypatch.setattr(answers, "SECONDS_AFTER_A_STOP", 0.0)
                os.kill(pids_of("ray::HostedLearner")[0], signal.SIGSTOP)
                trainer.population.fetch()  # as an evaluation does; waits until it is named
            return bool(warnings_in(sink))

        options = ON_RAY | {"n_episodes": 100_000, "checkpoint_interval": 100_000, "save_replay_buffer": True}
        trainer, sink = make_trainer(tmp_path, stop_requested=stop_requested, **options)
        assert not trainer.run()
        *named, of_learner, of_buffer = warnings_in(sink)
        assert named
        assert all("the learner of policy 0 has made no progress" in text for text in named)
        assert f"it is saved as it was after {steps[0]} learning steps." in of_learner
        assert "does not answer" in of_buffer
        content = read_checkpoint(numbered_checkpoint(trainer.folders.checkpoints, trainer.episode))
        assert content["policies"][0]["learning_steps"] == steps[0] > 0

    def test_child_that_ends_while_ray_is_looked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
            gone = psutil.Process(child.pid)
        children = psutil.Process.children
        monkeypatch.setattr(psutil.Process, "children", lambda of, **how: [gone, *children(of, **how)])
        LocalRay().check()

    def test_lost_weights_cost_no_rollout_actor(self, tmp_path: Path) -> None:
        def on_a_lost_machine() -> None:
            raise ray.exceptions.ObjectLostError("f" * 56, None, "")

        lost = ray.remote(on_a_lost_machine).remote()

        def lose() -> None:
            learner_of(trainer)._newest_weights = (0, lost)

        stop = Stop((lambda: trainer.episode >= 4, lose))
        options = ON_RAY | {"n_episodes": 40, "checkpoint_interval": 40, "broadcast_every": 10**6}
        trainer, sink = make_trainer(tmp_path, stop_requested=stop, **options)
        assert trainer.run()
        assert not stop.steps
        assert learner_of(trainer).newest_weights[1] is not lost
        assert warnings_in(sink) == []
        assert sorted(levels_played(sink)) == list(range(40))


class TestRatio:
    def test_is_kept_whichever_side_is_slower(self, tmp_path: Path) -> None:
        """The learner is halted for a while: rollout actors wait, and then it takes the steps that are due."""
        ahead: list[float] = []

        def halt() -> None:
            (pid,) = pids_of("ray::HostedLearner")
            os.kill(pid, signal.SIGSTOP)
            end = time.monotonic() + 2
            while time.monotonic() < end:
                trainer.experience.go_on()
                ahead.append(trainer.experience.metrics()["lag/rounds_ahead"])
            os.kill(pid, signal.SIGCONT)

        stop = Stop((lambda: trainer.episode >= 4, halt))
        options = ON_RAY | {"n_episodes": 60, "update_every": 8, "buffer_size": 20_000, "checkpoint_interval": 60}
        trainer, sink = make_trainer(tmp_path, stop_requested=stop, **options)
        assert trainer.run()
        assert not stop.steps
        assert max(ahead) == ahead[-1] == 3  # one rollout actor, and two rounds
        learner = learner_of(trainer)
        assert learner.learning_steps > 100
        assert 0 <= learner.buffer.n_added - 8 * learner.learning_steps < 300  # but for the round that fills the buffer
        assert learner.replay_ratio == pytest.approx(16 / 8, rel=0.01)
        assert max(row.get("lag/learning_steps", 0) for row in sink.rows) > 0
        names = {name for row in sink.rows for name in row} | set(trainer.experience.metrics())
        shown = [tags[1][0] for title, tags in layout(trainer.config.as_dict())["speed"].items() if "per" not in title]
        assert {"lag/learning_steps", "lag/rounds_ahead", "system/rollout_actors"} <= names & set(shown)


class TestSeveralEnvironments:
    def test_levels_follow_the_rule(self, tmp_path: Path) -> None:
        trainer, _ = make_trainer(tmp_path, async_rl=True, num_workers=2, **SEVERAL | {"n_episodes": 60})
        found = noted(trainer)
        assert trainer.run()
        assert len(trainer.level_pool.levels.opened) == 3
        check_rule(trainer, found)


class TestPlacement:
    def test_policies_share_gpus_as_the_mapping_says(self) -> None:
        """Ray believes in two GPUs; what an actor would see as its GPU is what it was given."""

        class Where:
            def gpus(self) -> list[str]:
                return [str(gpu) for gpu in ray.get_runtime_context().get_accelerator_ids()["GPU"]]

        places = place_learners(["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cpu"], on_cluster=True)
        actors = [ray.remote(Where).options(**place.options).remote() for place in places]
        gpus = ray.get([actor.gpus.remote() for actor in actors])
        for actor in actors:
            ray.kill(actor)
        assert [place.device for place in places] == ["cuda:0"] * 4 + ["cpu"]
        assert gpus[0] == gpus[2] != gpus[1] == gpus[3]
        assert gpus[4] == []

    def test_on_this_machine_numbers_are_those_of_its_gpus(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Where:
            def gpus(self) -> str | None:
                return os.environ.get("CUDA_VISIBLE_DEVICES")

        (place,) = place_learners(["cuda:1"], on_cluster=False)
        actor = ray.remote(Where).options(**place.options).remote()
        assert ray.get(actor.gpus.remote()) == os.environ.get("CUDA_VISIBLE_DEVICES")  # sees all that this process does
        ray.kill(actor)
        assert place.device == "cuda:1"
