"""A learner as it is on a GPU, on machines without one: what acts is some steps behind, and a lost GPU costs little."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reinforcement_learning.learning import learner as learner_module
from reinforcement_learning.learning.acting_copy import ActingCopy
from reinforcement_learning.learning.learner import LocalLearner
from reinforcement_learning.settings.devices import DeviceError
from tests.helpers.policies import make_policy
from tests.helpers.trainings import assert_same
from tests.learning.test_learner import FEATURES, make_learner, transitions

OPTIONS: dict[str, Any] = {"update_every": 2, "buffer_min_size": 16, "batch_size": 16, "broadcast_every": 4}


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learners go the way of those on GPUs, with all tensors on the CPU."""
    monkeypatch.setattr(learner_module, "learns_on_gpu", lambda device: True)


def learned(n_steps: int, **options: Any) -> LocalLearner:
    """A learner that has taken so many learning steps."""
    learner = make_learner(**OPTIONS, **options)
    learner.buffer.add(transitions(100))
    learn_on(learner, n_steps)
    return learner


def learn_on(learner: LocalLearner, n_steps: int) -> None:
    learner.transitions_to_learn_from += 2 * n_steps
    learner.learn()


def played(learner: LocalLearner) -> list[int]:
    observations = np.random.default_rng(1).normal(size=(400, FEATURES.n_features)).astype(np.float32)
    return learner.policy.act(observations, np.ones((400, 5), dtype=bool)).tolist()


def test_learns_what_a_learner_on_the_cpu_learns(on_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    there = learned(60)
    monkeypatch.setattr(learner_module, "learns_on_gpu", lambda device: False)
    here = learned(60)
    torch.testing.assert_close(torch.stack(there.losses), torch.stack(here.losses), rtol=1e-4, atol=1e-6)
    assert there.learning_steps == here.learning_steps == 60


def test_acts_with_weights_of_the_step_before_the_last_renewal(on_gpu: None) -> None:
    """Renewed after steps 4, 8, 12, ...; the weights of step 8 are on their way until step 12."""
    acting = [(n, learned(n)) for n in (0, 4, 8, 9, 12)]
    assert [learner.newest_weights[0] for _, learner in acting] == [0, 0, 4, 4, 8]
    exact = {n: learner.policy.acting_weights() for n, learner in acting}
    for _, learner in acting:
        steps, weights = learner.newest_weights
        np.testing.assert_array_equal(weights, exact[steps])
        assert learner.newest_weights[1] is weights  # or it would be sent to processes that play again
    for_comparison = make_policy(FEATURES.n_features, 4)
    for_comparison.set_acting_weights(exact[8])
    observations = np.random.default_rng(1).normal(size=(400, FEATURES.n_features)).astype(np.float32)
    wanted = for_comparison.act(observations, np.ones((400, 5), dtype=bool)).tolist()
    assert played(acting[-1][1]) == wanted


def test_acting_waits_for_the_weights_of_the_last_renewal_alone() -> None:
    """Copies that are not there yet are waited for when they are needed, which is a renewal later."""
    waited: list[int] = []

    class Arrives:
        def __init__(self, number: int) -> None:
            self.number = number

        def synchronize(self) -> None:
            waited.append(self.number)

    acting = ActingCopy(make_policy())
    send, n = acting._send, 0

    def send_slowly() -> Any:
        nonlocal n
        n += 1
        sent = send()
        return type(sent)(sent.learning_steps, sent.weights, Arrives(n))

    acting._send = send_slowly  # type: ignore[method-assign]
    acting.begin_again()
    for _ in range(3):
        acting.renew()
    assert waited == []  # learning never does
    acting.act(np.zeros((2, 6), np.float32), np.ones((2, 5), dtype=bool))
    acting.act(np.zeros((2, 6), np.float32), np.ones((2, 5), dtype=bool))
    assert waited == [3]  # the fourth is on its way


def test_goes_on_from_its_state_to_the_bit(on_gpu: None) -> None:
    """Weights that are acted with and those on their way included."""
    first = learned(14)
    second = make_learner(**OPTIONS, seed=9)
    second.buffer.take_over(first.buffer.content())
    second.load_state_dict(first.state_dict())
    for learner in (first, second):
        assert learner.newest_weights[0] == 8
    assert played(first) == played(second)
    for n_steps in (3, 4):
        for learner in (first, second):
            learn_on(learner, n_steps)
        assert first.newest_weights[0] == second.newest_weights[0]
        assert_same(second.state_dict(), first.state_dict())


def test_state_goes_from_gpu_to_cpu_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner_module, "learns_on_gpu", lambda device: True)
    there = learned(30)
    torch.save(there.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    monkeypatch.setattr(learner_module, "learns_on_gpu", lambda device: False)
    here = make_learner(**OPTIONS)
    here.buffer.take_over(there.buffer.content())
    here.load_state_dict(copy.deepcopy(state))
    assert here.policy.optimizer.lr == here.policy.learning_rate
    wanted = {name: value for name, value in state.items() if name != "acting"}
    assert_same(here.state_dict(), wanted)
    monkeypatch.setattr(learner_module, "learns_on_gpu", lambda device: True)
    back = make_learner(**OPTIONS)
    back.load_state_dict(copy.deepcopy(here.state_dict()))
    assert back.newest_weights[0] == 30  # those of the state, as it tells no others
    np.testing.assert_array_equal(back.newest_weights[1], here.policy.acting_weights())


def test_weights_to_act_with_of_another_network_are_refused(on_gpu: None) -> None:
    state = learned(5).state_dict()
    state["acting"][0]["weights"] = torch.zeros(3)
    with pytest.raises(ValueError, match="another network"):
        make_learner(**OPTIONS).load_state_dict(state)


def test_take_over_acts_with_what_was_taken_over(on_gpu: None) -> None:
    better, worse = learned(9), make_learner(1, **OPTIONS)
    worse.take_over(better)
    assert worse.newest_weights[0] == 9
    np.testing.assert_array_equal(worse.newest_weights[1], better.policy.acting_weights())


def test_lost_gpu_leaves_the_last_copy(on_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner_module, "BACKUP_EVERY", 10)
    wanted = learned(20).state_dict()
    learner = learned(20)
    learn_on(learner, 5)

    def gone() -> None:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(learner.policy, "state_dict", gone)
    learner.lose_device()
    assert learner.losses == []
    assert_same(learner.state_dict(), wanted)


def test_copies_share_nothing_with_what_goes_on(on_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = learned(12)
    state = learner.state_dict()
    before = copy.deepcopy(state)
    learn_on(learner, 9)
    played(learner)
    assert_same(state, before)


@pytest.mark.parametrize("place", ["make_policy", "GraphedStep"])
def test_gpu_that_fails_before_the_training(place: str, on_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has ...")

    monkeypatch.setattr(learner_module, place, fail)
    with pytest.raises(DeviceError, match=r"^cpu cannot be used \(OutOfMemoryError: CUDA out of memory\)\.$"):
        make_learner(**OPTIONS)


def test_gpu_that_cannot_take_a_step_fails_before_the_training(on_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little memory for a batch, or a GPU too old for PyTorch's kernels."""

    def fail(*_: Any) -> None:
        raise torch.AcceleratorError("CUDA error: no kernel image is available for execution on the device\nSearch for")

    monkeypatch.setattr(learner_module.DDDQNPolicy, "loss", fail)
    with pytest.raises(DeviceError, match="no kernel image is available for execution on the device"):
        make_learner(**OPTIONS)
