"""Networks of the user's own: what is refused before training, and that the others train as the kit's does."""

import math
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from reinforcement_learning import multi_agent_training
from reinforcement_learning.dueling_q_network import DuelingQNetwork, NetworkError, action_values, rank_actions
from reinforcement_learning.learning.learner import make_policy
from reinforcement_learning.learning.networks import check_networks, make_network
from reinforcement_learning.multi_policy.modes import check_exchange
from reinforcement_learning.saving.checkpointing import CheckpointError, load_policies, load_policy, numbered_checkpoint
from reinforcement_learning.settings.config import ConfigError, TrainingConfig
from reinforcement_learning.settings.named_code import NamedCode
from tests.helpers.own_code import Breaks, Linear, Wider
from tests.helpers.tiny_training import SMALL, make_trainer
from tests.helpers.trainings import assert_equals_uninterrupted, resume, run
from utils.observation.feature_sets import get_feature_set

FEATURES = get_feature_set("tree")
OWN = "tests.helpers.own_code"


def config_of(network: str, **options: object) -> TrainingConfig:
    return TrainingConfig(**{**SMALL, "feature_set": "tree", "network": network, **options})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("duelling", "one of dueling, attention, or package.module:callable"),
        ("no_such_module:Net", f"ModuleNotFoundError.*; looked for in the kit, in {Path.cwd()} and in PYTHONPATH"),
        ("./mine/net.py:Net", "give package.module:callable, such as folder.file:Net for folder/file.py"),
        ("net.py:Net", "such as folder.file:Net"),
        (".net:Net", "such as folder.file:Net"),
        (f"{OWN}:NoSuch", "AttributeError"),
        (f"{OWN}:N_BIG", "is a int, but must be a callable"),
        (f"{OWN}:not_made", "cannot be made .TypeError"),
        (f"{OWN}:nothing", "is a NoneType, but must be a torch.nn.Module"),
        (f"{OWN}:without_parameters", "has no parameters"),
        (f"{OWN}:lazy", "lazy"),
        (f"{OWN}:in_double", "torch.float64, but all must be torch.float32"),
        (f"{OWN}:too_few_actions", r"gives torch.float32 \[2, 4\] .* but must give torch.float32 \[2, 5\]"),
        (f"{OWN}:AdvantagesOfAnotherShape", r"gives torch.float32 \[2, 2\]"),
        (f"{OWN}:Fails", r"fails on observations \[2, 231\] .RuntimeError: no idea"),
        (f"{OWN}:NoNumbers", "not finite"),
        (f"{OWN}:Forgets", "without a gradient"),
        (f"{OWN}:CannotLearn", "fails on .* inplace operation"),
        (f"{OWN}:dropout", "draws random numbers"),
        (f"{OWN}:batch_normalization", "changes its buffers"),
        (f"{OWN}:Mixes", "mixes the observations of a batch"),
        (f"{OWN}:InAList", "layers or numbers that are not stored"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_sentence(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error_info:
        check_networks(config_of(name), FEATURES)
    sentence = str(error_info.value)
    assert sentence.startswith("--network: ")
    assert repr(name) in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("name", ["dueling", "attention", f"{OWN}:Linear", "examples.tree_attention:TreeAttention"])
def test_what_can_be_trained_is_not(name: str) -> None:
    check_networks(config_of(name), FEATURES)


def test_command_line_exits_2_before_any_folder_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [f"--{name}={tmp_path / name}" for name in ("checkpoint_dir", "output_dir", "replay_buffer_dir")]
    assert multi_agent_training.main(["-t", "Tiny", "--network", f"{OWN}:Mixes", *folders]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_module_in_the_working_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("from tests.helpers.own_code import Wider as Net\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)  # other tests have one, too
    assert isinstance(make_network(config_of("mine:Net"), FEATURES, 0), Wider)


class TestMakeNetwork:
    def test_equal_seeds_are_equal_and_policies_differ(self) -> None:
        first, same, other = (make_network(config_of("dueling"), FEATURES, index) for index in (3, 3, 4))
        pairs = zip(first.parameters(), same.parameters(), other.parameters(), strict=True)
        for a, b, c in pairs:
            assert a.equal(b)
            assert a.ndim == 1 or not a.equal(c)

    def test_global_random_state_stays_as_it_was(self) -> None:
        before = torch.random.get_rng_state()
        make_network(config_of(f"{OWN}:Linear"), FEATURES, 0)
        check_networks(config_of(f"{OWN}:Linear"), FEATURES)
        assert torch.random.get_rng_state().equal(before)

    def test_one_for_all_or_one_for_each(self) -> None:
        each = config_of(f"{OWN}:Linear,dueling,{OWN}:Wider", num_policies=3)
        assert [type(make_network(each, FEATURES, p)) for p in range(3)] == [Linear, DuelingQNetwork, Wider]
        shared = config_of(f"{OWN}:Linear", num_policies=3)
        assert [type(make_network(shared, FEATURES, p)) for p in range(3)] == [Linear] * 3
        with pytest.raises(ConfigError, match="names 2 networks, but --num_policies is 3"):
            config_of(f"{OWN}:Linear,dueling", num_policies=3)

    def test_policies_of_different_networks_cannot_exchange_weights(self) -> None:
        with pytest.raises(ConfigError, match=r"--with_pbt .* different networks"):
            check_exchange(config_of(f"{OWN}:Linear,dueling", num_policies=2, with_pbt=True))


def test_values_rank_the_actions_where_there_are_no_advantages() -> None:
    network = make_network(config_of(f"{OWN}:Linear"), FEATURES, 0)
    observations = torch.rand(20, FEATURES.n_features)
    assert rank_actions(network, observations).equal(network(observations))


def test_a_layer_named_advantages_is_no_method() -> None:
    network = make_network(config_of(f"{OWN}:Linear"), FEATURES, 0)
    network.advantages = torch.nn.Linear(3, 5)
    observations = torch.rand(20, FEATURES.n_features)
    assert rank_actions(network, observations).equal(network(observations))


def test_acting_weights_hold_buffers_too() -> None:
    first, second = (make_policy(config_of(f"{OWN}:Linear"), FEATURES, index, "cpu") for index in (0, 1))
    observations = torch.rand(20, FEATURES.n_features)
    assert not first.q_network(observations).equal(second.q_network(observations))
    second.set_acting_weights(first.acting_weights())
    assert first.q_network(observations).equal(second.q_network(observations))


class TestThatBreaks:
    @pytest.fixture(autouse=True)
    def mended(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Breaks, "calls_left", math.inf)

    @pytest.mark.parametrize(("n_rows", "calls"), [(1, 0), (1, 5), (SMALL["batch_size"], 0), (SMALL["batch_size"], 30)])
    def test_leaves_a_checkpoint_that_goes_on_when_it_is_mended(self, tmp_path: Path, n_rows: int, calls: int) -> None:
        """Playing or learning: in the end every level is over."""
        options: dict[str, Any] = {"n_episodes": 6, "num_envs": 3, "network": f"{OWN}:Breaks"}
        trainer, _ = make_trainer(tmp_path, **options)
        Breaks.n_rows, Breaks.calls_left = n_rows, calls
        with pytest.raises(NetworkError, match=r"Breaks' fails on .*no idea; own_code.py, line \d+\)\.") as error_info:
            trainer.run()
        assert error_info.value.saved
        Breaks.calls_left = math.inf
        resumed, _ = resume(tmp_path, numbered_checkpoint(trainer.folders.checkpoints, trainer.episode), **options)
        assert resumed.run()
        assert resumed.episode == resumed.experience.next_level == 6

    def test_counts_the_episodes_that_were_over(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        trainer, _ = make_trainer(tmp_path, n_episodes=3, network=f"{OWN}:Breaks")
        learn, Breaks.n_rows = trainer.population.learn, SMALL["batch_size"]

        def break_after_an_episode() -> None:
            if not trainer.experience.unfinished():
                raise NetworkError("fails", "x:Net")
            learn()

        monkeypatch.setattr(trainer.population, "learn", break_after_an_episode)
        with pytest.raises(NetworkError):
            trainer.run()
        assert trainer.episode == trainer.experience.next_level == 1

    def test_in_a_worker_is_told_as_in_one_process(self, tmp_path: Path) -> None:
        trainer, _ = make_trainer(tmp_path, num_workers=1, n_episodes=6, network=f"{OWN}:BreaksElsewhere")
        words = r"BreaksElsewhere' gives torch.float32 \[5\] of observations .* must give torch.float32 \[\d+, 5\]\."
        with pytest.raises(NetworkError, match=words) as error_info:
            trainer.run()
        assert error_info.value.saved

    def test_errors_of_the_kits_own_network_stay_as_they_are(self) -> None:
        with pytest.raises(RuntimeError, match="shapes"):
            action_values(DuelingQNetwork(3, 8), torch.rand(2, 2))


class TestTraining:
    OPTIONS: ClassVar[dict[str, Any]] = {
        "n_episodes": 6,
        "num_envs": 2,
        "num_policies": 2,
        "network": f"{OWN}:Linear,{OWN}:Wider",
        "partner_snapshot_prob": 0.5,
        "partner_snapshot_every": 2,
        "save_replay_buffer": True,
    }

    def test_resumed_is_as_uninterrupted(self, tmp_path: Path) -> None:
        whole = run(tmp_path / "whole", **self.OPTIONS)
        assert_equals_uninterrupted(tmp_path / "parts", whole, 40, self.OPTIONS)

    def test_plays_with_workers_and_from_its_checkpoint(self, tmp_path: Path) -> None:
        trainer, _ = run(tmp_path, num_workers=1, **self.OPTIONS)
        assert trainer.population.learning_steps > 0
        path = numbered_checkpoint(trainer.folders.checkpoints, 6)
        observations = np.random.default_rng(0).random((30, trainer.feature_set.n_features), dtype=np.float32)
        mask = np.ones((30, 5), bool)
        wanted = [policy.act(observations, mask).tolist() for policy in trainer.population.evaluation_policies()]
        named = NamedCode(network=(f"{OWN}:Wider", f"{OWN}:Linear"))  # those of other checkpoints may be among them
        policies, _, _ = load_policies(path, named)
        assert [policy.act(observations, mask).tolist() for policy in policies] == wanted
        assert load_policy(path, 1, named)[0].act(observations, mask).tolist() == wanted[1]
        for wrong in (NamedCode(), NamedCode(network=(f"{OWN}:Linear",)), NamedCode(network=("dueling",))):
            with pytest.raises(CheckpointError, match=f"{OWN}:Linear,{OWN}:Wider"):
                load_policy(path, 0, wrong)

    def test_weights_of_another_code_of_the_same_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        name = f"{OWN}:Linear"
        trainer, _ = make_trainer(tmp_path, n_episodes=2, network=name)
        trainer.run()
        path = numbered_checkpoint(trainer.folders.checkpoints, 2)
        monkeypatch.setattr(OWN + ".Linear", Wider)
        with pytest.raises(CheckpointError, match=f"weights of another shape than its network '{name}'"):
            load_policy(path, named=NamedCode(network=(name,)))
        assert multi_agent_training.main(["--resume", str(path), "--network", name]) == 2
        assert "weights of another shape" in capsys.readouterr().err
        assert multi_agent_training.main(["--resume", str(path), "--network", "dueling"]) == 2
        assert f"--network is 'dueling', but the checkpoint was trained with '{name}'" in capsys.readouterr().err
