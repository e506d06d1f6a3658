"""A training on a Ray cluster of two machines, as far as Ray can tell: one of them is lost in the middle."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reinforcement_learning.saving.checkpointing import numbered_checkpoint, read_checkpoint
from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.training.trainer import Trainer
from tests.helpers.tiny_training import make_trainer

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")

from ray.cluster_utils import Cluster  # noqa: E402

from reinforcement_learning.distributed import remote_learner  # noqa: E402
from reinforcement_learning.distributed.ray_experience import RayExperience  # noqa: E402
from reinforcement_learning.distributed.session import RaySession, import_ray  # noqa: E402

OPTIONS: dict[str, Any] = {
    "async_rl": True,
    "n_episodes": 3000,
    "num_envs": 3,
    "num_workers": 2,
    "eps_decay": 0.999,
    "eps_end": 1e-9,
    "checkpoint_interval": 10_000,
}


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine actors may take a minute to start, which nobody need be told here."""
    monkeypatch.setattr(remote_learner, "SECONDS_WITHOUT_PROGRESS", 1e9)


@pytest.fixture
def cluster() -> Iterator[Any]:
    import_ray()
    store = {"object_store_memory": 100 * 1024**2}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False, **store})
    yield cluster
    cluster.shutdown()


def ready_rollouts(trainer: Trainer) -> int:
    assert isinstance(trainer.experience, RayExperience)
    return int(trainer.experience.metrics()["system/rollout_actors"])


def test_lost_node_costs_nothing_but_its_unfinished_episodes(cluster: Any, tmp_path: Path) -> None:
    """The learner and a rollout actor are on the first node, the other rollout actor on the second."""
    second = cluster.add_node(num_cpus=1, object_store_memory=100 * 1024**2)
    lost_at: list[int] = []

    def stop_requested() -> bool:
        if not lost_at:
            if trainer.episode >= 4 and ready_rollouts(trainer) == 2:
                cluster.remove_node(second)
                lost_at.append(trainer.episode)
                cluster.add_node(num_cpus=1, object_store_memory=100 * 1024**2)
            return False
        # the lost one is noticed, and another one plays on the new node
        return bool(warnings()) and ready_rollouts(trainer) == 2

    def warnings() -> list[str]:
        return [text for text in sink.messages if "warning" in text]

    with RaySession(TrainingConfig(async_rl=True, ray_address=cluster.address)) as n_gpus:
        assert n_gpus == 0
        trainer, sink = make_trainer(tmp_path, stop_requested=stop_requested, **OPTIONS)
        assert not trainer.run()
    (said,) = warnings()
    assert "a rollout actor has ended" in said
    assert "another takes its place" in said
    assert trainer.episode > lost_at[0]
    content = read_checkpoint(numbered_checkpoint(trainer.folders.checkpoints, trainer.episode))
    epsilons = np.array([row["training/epsilon"] for row in sink.rows if "training/epsilon" in row])
    played = np.round(np.log(epsilons) / np.log(0.999)).astype(int).tolist()
    begun = [episode["level_number"] for episode in content["unfinished"]]
    assert sorted(played + begun) == list(range(content["next_level"]))
    assert content["policies"][0]["learning_steps"] > 0
