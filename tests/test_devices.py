"""Where policies live, for machines with any number of GPUs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reinforcement_learning.multi_policy.devices import DeviceError, describe, place_policies


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


@pytest.mark.parametrize("devices", ["cuda:2", "gpu:0", "cuda:-1", "cuda:x", "cpu,", "cuda:0,cuda:1,mps"])
def test_devices_that_are_none_are_refused(devices: str) -> None:
    with pytest.raises(DeviceError, match="--devices names"):
        place_policies(2, use_gpu=False, devices=devices, n_gpus=2)
