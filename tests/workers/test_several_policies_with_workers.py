"""Several policies and processes that play: mappings, transitions and learning are those of one process."""

import json
import os
import signal
from pathlib import Path
from typing import Any, ClassVar

import pytest

from reinforcement_learning.saving.checkpointing import numbered_checkpoint, read_checkpoint
from reinforcement_learning.settings.extensions import ExtensionError
from reinforcement_learning.training.trainer import Trainer
from tests.helpers.processes import ROLLOUT_WORKER, pids_of
from tests.helpers.tiny_training import UNGUIDED, MemorySink, make_trainer, stop_after
from tests.helpers.trainings import assert_same, resume, run, state_of
from utils.simulator.rail_state import RailState

# Test_0 has five trains. Without exploration and learning steps a transition depends on the level and its
# policies alone.
GREEDY: dict[str, Any] = {"eps_start": 0.0, "eps_end": 0.0, "buffer_size": 5000, "buffer_min_size": 5000} | UNGUIDED
THREE: dict[str, Any] = {"training_env_config": "Test_0", "num_policies": 3, "num_envs": 3, "seed": 4}


def wrong_later(request: Any) -> list[int]:
    """A mapping that breaks in the sixth episode."""
    return [0] * (request.n_trains - (request.episode == 5))


def policies_by_level(*folders: Path) -> dict[int, list[int]]:
    files = [folder / "output/policy_mapping.jsonl" for folder in folders]  # none where no episode was finished
    lines = [line for file in files if file.exists() for line in file.read_text().splitlines()]
    rows = [json.loads(line) for line in lines]
    assert len({row["level_number"] for row in rows}) == len(rows)  # none is played twice
    return {row["level_number"]: row["policy_of_train"] for row in rows}


def rows_of(trainer: Trainer) -> list[list[bytes]]:
    """Of each policy the rows, each as its bytes, sorted."""
    buffers = [learner.buffer.rows().values() for learner in trainer.population.learners]
    return [sorted(b"".join(r.tobytes() for r in rows) for rows in zip(*b, strict=True)) for b in buffers]


def test_same_mapping_and_rows_whatever_the_number_of_workers_and_whoever_dies(tmp_path: Path) -> None:
    killed: list[int] = []

    def kill_one() -> bool:
        if not killed and trainers[1].episode > 3:
            killed.append(pids_of(ROLLOUT_WORKER)[0])
            os.kill(killed[0], signal.SIGKILL)
        return False

    options = THREE | GREEDY | {"n_episodes": 24, "num_envs": 2, "checkpoint_interval": 24}
    trainers: list[Trainer] = []
    for n in (0, 2):
        stop = kill_one if n else (lambda: False)
        folder = tmp_path / str(n)
        trainers.append(make_trainer(folder, num_workers=n, stop_requested=stop, log_mapping=True, **options)[0])
    assert all(trainer.run() for trainer in trainers)
    assert killed
    local, apart = trainers
    assert policies_by_level(tmp_path / "2") == policies_by_level(tmp_path / "0")
    # also of the one that was killed nothing comes twice: only whole episodes are sent
    assert rows_of(apart) == rows_of(local)
    assert apart.population.trains_driven.tolist() == local.population.trains_driven.tolist()
    assert min(len(learner.buffer) for learner in local.population.learners) > 50


class TestTraining:
    """With all that a population has: older copies, exchanges, a mapping that changes."""

    OPTIONS: ClassVar[dict[str, Any]] = THREE | {
        "n_episodes": 30,
        "num_workers": 2,
        "resample_policies_every": 2,
        "checkpoint_interval": 10,
        "with_pbt": True,
        "pbt_start_episodes": 0,
        "pbt_min_errors": 0.0,
        "pbt_period_episodes": 8,
        "pbt_min_gap": 0.0,
        "partner_snapshot_prob": 0.3,
        "partner_snapshot_every": 4,
        "eps_decay": 0.8,
        "save_replay_buffer": True,
        "buffer_size": 5000,
    }

    @pytest.fixture(scope="class")
    def finished(self, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, MemorySink]:
        trainer, sink = make_trainer(tmp_path_factory.mktemp("finished"), log_mapping=True, **self.OPTIONS)
        assert trainer.run()
        return trainer, sink

    def test_each_policy_learns_from_what_it_has_driven(self, finished: tuple[Trainer, MemorySink]) -> None:
        population = finished[0].population
        for learner in population.learners:
            assert learner.buffer.n_added > 300
            # one of 1, from which the search may take batches and their number to twice and half
            assert 0.2 < learner.replay_ratio < 4.1
        policy_of_train = [
            d for of_level in policies_by_level(finished[0].folders.output.parent).values() for d in of_level
        ]
        assert max(policy_of_train) >= 3  # older copies drive, too
        assert len(policy_of_train) == 30 * 5

    def test_same_seed_same_training(self, tmp_path: Path, finished: tuple[Trainer, MemorySink]) -> None:
        again, sink = run(tmp_path, **self.OPTIONS)
        assert len(again.population.exchanges) > 1
        assert_same(state_of(again), state_of(finished[0]))
        assert_same(sink.rows, finished[1].rows)

    def test_goes_on_without_workers_and_with_them_again(self, tmp_path: Path) -> None:
        """Each level is played once, by whom the mapping says, and learning goes on where it was."""
        folders = [tmp_path / str(part) for part in range(3)]
        stops = [lambda: trainer.episode >= 8, stop_after(30), lambda: False]
        checkpoint: Path | None = None
        for folder, stop, n_workers in zip(folders, stops, (2, 0, 1), strict=True):
            options = self.OPTIONS | {"num_workers": n_workers, "stop_requested": stop, "log_mapping": True}
            if checkpoint is None:
                trainer = make_trainer(folder, **options)[0]
            else:
                trainer = resume(folder, checkpoint, **options)[0]
                saved = read_checkpoint(checkpoint)
                steps = [learner.learning_steps for learner in trainer.population.learners]
                assert steps == [policy["learning_steps"] for policy in saved["policies"]]
                assert trainer.population.exchanges == saved["exchanges"]
                assert len(trainer.population.past_selves.policies) == len(saved["past_selves"]["networks"]) > 0
            done = trainer.run()
            assert done == (folder == folders[-1])
            checkpoint = numbered_checkpoint(trainer.folders.checkpoints, trainer.episode)
        found = policies_by_level(*folders)
        assert sorted(found) == list(range(30))
        for level, policy_of_train in found.items():
            state = RailState.from_env(trainer.level_pool.levels.make(level))
            assert [d % 3 for d in policy_of_train] == trainer.population.mapping.policy_of_train(level, state).tolist()


def test_mapping_that_breaks_in_a_worker_is_told_as_in_one_process(tmp_path: Path) -> None:
    name = "tests.workers.test_several_policies_with_workers:wrong_later"
    trainer, _ = make_trainer(tmp_path, n_episodes=9, num_policies=2, num_workers=1, policy_mapping=name)
    with pytest.raises(ExtensionError, match=r"in episode 5 the mapping .* gave 1 numbers") as error_info:
        trainer.run()
    assert error_info.value.saved
    assert numbered_checkpoint(trainer.folders.checkpoints, trainer.episode).exists()
