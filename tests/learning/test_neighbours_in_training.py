"""Trainings in which trains see their neighbours: the networks that look at them, and their checkpoints."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from reinforcement_learning.attention_q_network import AttentionQNetwork
from reinforcement_learning.dueling_q_network import DuelingQNetwork
from reinforcement_learning.evaluate_agent import main as evaluate
from reinforcement_learning.learning.networks import check_network, check_networks, make_network
from reinforcement_learning.saving.checkpointing import (
    BEST,
    CheckpointError,
    export_checkpoint,
    load_policies,
    load_policy,
    numbered_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from reinforcement_learning.settings import features
from reinforcement_learning.settings.config import NETWORKS, ConfigError, TrainingConfig
from reinforcement_learning.settings.features import feature_set_of
from reinforcement_learning.settings.named_code import NamedCode, options_to_play
from tests.helpers.tiny_training import SMALL
from tests.helpers.trainings import assert_equals_uninterrupted, run

OWN = "tests.helpers.own_code"
N_ATTENTION = NETWORKS["attention"]


def config_of(network: str, **options: object) -> TrainingConfig:
    return TrainingConfig(**{**SMALL, "network": network, **options})


class TestFeatureSet:
    @pytest.mark.parametrize(
        ("network", "n_neighbours"),
        [
            ("dueling", 0),
            (f"{OWN}:Linear", 0),
            ("attention", N_ATTENTION),
            (f"{OWN}:LooksAtTwo", 2),
            (f"dueling,{OWN}:LooksAtTwo", 2),
            (f"{OWN}:LooksAtTwo,attention", N_ATTENTION),
        ],
    )
    def test_has_as_many_neighbours_as_any_network_looks_at(self, network: str, n_neighbours: int) -> None:
        config = config_of(network, num_policies=1 + network.count(","))
        assert feature_set_of(config).n_neighbours == n_neighbours
        check_networks(config, feature_set_of(config))

    @pytest.mark.parametrize(("name", "number"), [("LooksAtTooMany", "9"), ("LooksAtHalfATrain", "0.5")])
    def test_that_cannot_be_is_refused_in_one_sentence(self, name: str, number: str) -> None:
        words = f"^--network: '{OWN}:{name}' has n_neighbours {number}, but it must be a whole number from 0 to 8.$"
        with pytest.raises(ConfigError, match=words):
            feature_set_of(config_of(f"{OWN}:{name}"))

    def test_dueling_looks_at_the_train_alone(self) -> None:
        config = config_of("dueling,attention", num_policies=2)
        networks = [make_network(config, feature_set_of(config), index) for index in range(2)]
        assert [type(network) for network in networks] == [DuelingQNetwork, AttentionQNetwork]
        alone = make_network(config_of("dueling"), feature_set_of(config_of("dueling")), 0)
        assert [p.shape for p in networks[0].parameters()] == [p.shape for p in alone.parameters()]


def test_attention_is_what_a_network_must_be() -> None:
    """It is on board, so trainings do not check it."""
    config = config_of("attention")
    check_network(make_network(config, feature_set_of(config), 0), "attention", feature_set_of(config))


def test_only_code_of_the_users_own_is_named_to_play() -> None:
    assert options_to_play(config_of("attention")) == []
    assert options_to_play(config_of(f"{OWN}:LooksAtTwo")) == ["--network", f"{OWN}:LooksAtTwo"]


class TestTraining:
    OPTIONS: ClassVar[dict[str, Any]] = {
        "n_episodes": 6,
        "num_envs": 2,
        "network": "attention",
        "save_replay_buffer": True,
    }

    @pytest.mark.parametrize("more", [{}, {"num_policies": 2, "policy_mode": "synchronous"}])
    def test_resumed_is_as_uninterrupted(self, tmp_path: Path, more: dict[str, Any]) -> None:
        options = self.OPTIONS | more
        whole = run(tmp_path / "whole", **options)
        assert whole[0].population.learning_steps > 0
        assert_equals_uninterrupted(tmp_path / "parts", whole, 40, options)

    def test_beside_dueling_with_a_worker_plays_from_its_checkpoint(self, tmp_path: Path) -> None:
        options = self.OPTIONS | {"num_policies": 2, "network": "dueling,attention", "num_workers": 1}
        trainer, _ = run(tmp_path, **options)
        assert all(learner.policy.learning_steps > 0 for learner in trainer.population.learners)
        policies, observer, _ = load_policies(numbered_checkpoint(trainer.folders.checkpoints, 6))
        observations = np.random.default_rng(0).random((30, trainer.feature_set.n_features), dtype=np.float32)
        mask = np.ones((30, 5), bool)
        for loaded, trained in zip(policies, trainer.population.evaluation_policies(), strict=True):
            assert loaded.act(observations, mask).tolist() == trained.act(observations, mask).tolist()
        assert observer.feature_set == trainer.feature_set


class TestCheckpoint:
    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        trainer, _ = run(tmp_path_factory.mktemp("training"), n_episodes=3, network="attention")
        return trainer.folders.checkpoints

    def test_is_scored_whole_and_exported(self, folder: Path, tmp_path: Path) -> None:
        export_checkpoint(folder / BEST, tmp_path / "exported.pt")
        arguments = ["--policy", str(folder / BEST), "--policy", str(tmp_path / "exported.pt"), "-e", "Tiny", "-n", "2"]
        assert evaluate(arguments) == 0

    def test_of_other_neighbours_is_refused(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(features, "NETWORKS", {"attention": 1})
        words = f"was trained with {N_ATTENTION} neighbours, but its network 'attention' looks at 1 now.$"
        with pytest.raises(CheckpointError, match=words):
            load_policy(folder / BEST)

    def test_of_a_network_that_was_not_looking_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = f"{OWN}:Linear"
        trainer, _ = run(tmp_path, n_episodes=2, network=name)
        path = numbered_checkpoint(trainer.folders.checkpoints, 2)
        monkeypatch.setattr(f"{OWN}.Linear.n_neighbours", 3, raising=False)
        with pytest.raises(CheckpointError, match=f"with 0 neighbours, but its network '{name}' looks at 3 now"):
            load_policy(path, named=NamedCode(network=(name,)))

    def test_that_names_no_network_of_the_kit_is_refused(self, folder: Path, tmp_path: Path) -> None:
        content = read_checkpoint(folder / BEST)
        write_checkpoint(tmp_path / "x.pt", content | {"config": content["config"] | {"network": "retention"}})
        with pytest.raises(CheckpointError, match="there is no network 'retention'"):
            load_policy(tmp_path / "x.pt")
