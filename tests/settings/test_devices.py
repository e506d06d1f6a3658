"""Where policies live, for machines with any number of GPUs."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reinforcement_learning import multi_agent_training
from reinforcement_learning.learning.learner import LocalLearner
from reinforcement_learning.multi_policy.population import Population
from reinforcement_learning.settings.config import ConfigError, TrainingConfig
from reinforcement_learning.settings.devices import DeviceError, describe, of_pytorch, place_policies
from tests.helpers.tiny_training import SMALL
from utils.observation.feature_sets import get_feature_set


def test_four_policies_on_two_gpus() -> None:
    placement = place_policies(4, use_gpu=True, devices="", n_gpus=2)
    assert placement.devices == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert placement.note == ""
    assert describe(placement.devices) == "cuda:0 (policies 0, 2); cuda:1 (policies 1, 3)"


@given(n_policies=st.integers(1, 40), n_gpus=st.integers(1, 16))
def test_policy_p_lives_on_gpu_p_modulo_their_number(n_policies: int, n_gpus: int) -> None:
    devices = place_policies(n_policies, use_gpu=True, devices="", n_gpus=n_gpus).devices
    assert devices == [f"cuda:{p % n_gpus}" for p in range(n_policies)]


def test_without_gpus_all_are_on_the_cpu_which_is_said() -> None:
    placement = place_policies(3, use_gpu=True, devices="", n_gpus=0)
    assert placement.devices == ["cpu"] * 3
    assert "all 3 policies train on the CPU" in placement.note
    assert "\n" not in placement.note
    assert "training on the CPU" in place_policies(1, use_gpu=True, devices="", n_gpus=0).note


def test_gpus_are_left_alone_unless_wanted() -> None:
    placement = place_policies(2, use_gpu=False, devices="", n_gpus=2)
    assert (placement.devices, placement.note) == (["cpu", "cpu"], "")
    assert describe(placement.devices) == "cpu"


def test_list_of_devices() -> None:
    placement = place_policies(4, use_gpu=False, devices="cuda:1, cpu,cuda", n_gpus=2)
    assert placement.devices == ["cuda:1", "cpu", "cuda:0", "cuda:1"]


def test_cpu_has_several_names_for_us_and_one_for_pytorch() -> None:
    placement = place_policies(4, use_gpu=False, devices="cpu:0,cpu:1,cpu", n_gpus=0)
    assert placement.devices == ["cpu", "cpu:1", "cpu", "cpu"]
    assert [of_pytorch(name) for name in ("cpu", "cpu:1", "cuda:1")] == ["cpu", "cpu", "cuda:1"]


@pytest.mark.parametrize(
    "devices",
    ["cuda:2", "gpu:0", "cuda:-1", "cuda:x", "cpu,", "cpu:x", "cpu:-1", "cuda:0,cuda:1,mps", "cuda:" + "9" * 5000],
)
def test_devices_that_are_none_are_refused(devices: str) -> None:
    with pytest.raises(DeviceError, match="--devices names"):
        place_policies(2, use_gpu=False, devices=devices, n_gpus=2)


@pytest.mark.parametrize(
    ("n_gpus", "arguments", "wanted"),
    [
        (2, ["--use_gpu"], ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]),
        (8, ["--use_gpu"], ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]),
        (2, ["--devices", "cuda:1,cpu"], ["cuda:1", "cpu", "cuda:1", "cpu"]),
        (0, ["--devices", "cpu:0,cpu:1"], ["cpu", "cpu:1", "cpu", "cpu:1"]),
        (2, [], ["cpu"] * 4),
        (0, ["--use_gpu"], ["cpu"] * 4),
    ],
)
def test_command_line_on_machines_with_so_many_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_gpus: int, arguments: list[str], wanted: list[str]
) -> None:
    found: list[Any] = []

    def no_trainer(*positional: Any, devices: list[str], **named: Any) -> None:
        found.extend(devices)
        raise ConfigError("there are no such GPUs after all.")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(multi_agent_training, "available_gpus", lambda: n_gpus)
    monkeypatch.setattr(multi_agent_training, "Trainer", no_trainer)
    folders = ["--checkpoint_dir", "c", "--output_dir", "o", "--replay_buffer_dir", "b"]
    assert multi_agent_training.main(["--num_policies", "4", "--wandb=False", *folders, *arguments]) == 2
    assert found == wanted


def test_each_learner_is_made_on_its_policy_s_device() -> None:
    made = {}

    def make_learner(config: TrainingConfig, features: Any, index: int, device: Any) -> LocalLearner:
        made[index] = device
        return LocalLearner(config, features, index, "cpu")

    config, features = TrainingConfig(**{**SMALL, "num_policies": 4, "feature_set": "tree"}), get_feature_set("tree")
    Population(config, features, ["cuda:0", "cuda:1", "cuda:0", "cuda:1"], make_learner)
    assert made == {0: "cuda:0", 1: "cuda:1", 2: "cuda:0", 3: "cuda:1"}
