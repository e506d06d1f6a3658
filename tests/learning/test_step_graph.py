"""The learning step as a GPU takes it, on machines without one: the same weights, and tensors that stay in place."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reinforcement_learning.attention_q_network import AttentionQNetwork
from reinforcement_learning.dddqn_policy import DDDQNPolicy
from reinforcement_learning.dueling_q_network import DuelingQNetwork, NetworkError
from reinforcement_learning.learning.device_mirror import empty_draw
from reinforcement_learning.learning.replay_buffer import ReplayBuffer
from reinforcement_learning.learning.step_graph import WARM_UP_STEPS, GraphedStep, PlainCalls
from reinforcement_learning.playing.reward_shaping import RewardWeights
from tests.helpers.policies import make_policy
from tests.helpers.rows import PLAIN, made_up_rows
from tests.helpers.trainings import assert_same
from utils.observation.feature_sets import FeatureSet, get_feature_set

FEATURES = get_feature_set("tree")
RATES = ("learning_rate", "tau", "advantage_learning")


class FakeGraph(PlainCalls):
    """Calls the function, and notes what a real one would do."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def warm_up(self, function: Callable[[], Tensor]) -> Tensor:
        self.calls.append("warm up")
        return super().warm_up(function)

    def capture(self, function: Callable[[], Tensor]) -> None:
        self.calls.append("capture")
        super().capture(function)

    def replay(self) -> Tensor:
        self.calls.append("replay")
        return super().replay()


def make_filled_buffer(n: int = 300, seed: int = 0) -> ReplayBuffer:
    random = np.random.default_rng(seed)
    buffer = ReplayBuffer(200, FEATURES, np.random.default_rng(7))
    buffer.add(
        made_up_rows(
            n,
            FEATURES.n_features,
            rewards=random.random(n),
            observations=random.random((n, FEATURES.n_features)),
            actions=random.integers(5, size=n),
            shown=random.integers(-1, 5, size=n),
            next_row=np.arange(n) < n - 1,
        )
    )
    return buffer


def make_small_policy(*, capturable: bool, **options: Any) -> DDDQNPolicy:
    # powers of two are the same in tensors of float32
    rates = {"learning_rate": 2.0**-8, "tau": 2.0**-5, "advantage_learning": 0.5, "averaging_steps": 64}
    return make_policy(FEATURES.n_features, 8, capturable=capturable, margin=0.8, **{**rates, **options})


def state_of(policy: DDDQNPolicy) -> dict[str, Any]:
    return copy.deepcopy(policy.state_dict())


def changes() -> list[tuple[int, str, float]]:
    """Rates and batch sizes that are others from a step on."""
    return [
        (20, "learning_rate", 2.0**-6),
        (60, "tau", 2.0**-2),
        (90, "advantage_learning", 0.0),
        (130, "batch_size", 24),
        (170, "advantage_learning", 0.25),
        (200, "batch_size", 16),
    ]


def learn_through(policy: DDDQNPolicy, learn: Callable[[int], Tensor]) -> list[Tensor]:
    """240 steps, with the changes between them; ``learn`` is given the batch size."""
    losses, batch_size = [], 16
    for step in range(240):
        for at, name, value in changes():
            if at == step and name == "batch_size":
                batch_size = int(value)
            elif at == step:
                setattr(policy, name, value)
        losses.append(learn(batch_size))
    return losses


def learned_by_graph(**options: Any) -> tuple[DDDQNPolicy, list[Tensor], FakeGraph]:
    policy, graph = make_small_policy(capturable=True, **options), FakeGraph()
    step = GraphedStep(policy, make_filled_buffer(), graph)
    return policy, learn_through(policy, lambda size: step.learn(size, PLAIN, 3)), graph


def learned_plainly(*, capturable: bool, **options: Any) -> tuple[DDDQNPolicy, list[Tensor]]:
    policy, buffer = make_small_policy(capturable=capturable, **options), make_filled_buffer()
    return policy, learn_through(policy, lambda size: policy.learn(buffer.sample(size, PLAIN, 3)))


def test_same_weights_to_the_bit_whether_steps_are_replayed_or_called() -> None:
    replayed, losses, _ = learned_by_graph()
    called, wanted = learned_plainly(capturable=True)
    assert_same(state_of(replayed), state_of(called))
    assert_same(losses, wanted)
    assert replayed.learning_steps == 240


def test_rates_in_tensors_do_what_numbers_do() -> None:
    """Each of the changes, and the average that is a plain mean at first; sums are rounded otherwise."""
    (tensors, losses), (numbers, wanted) = learned_plainly(capturable=True), learned_plainly(capturable=False)
    torch.testing.assert_close(losses, wanted, rtol=1e-4, atol=1e-5)
    found, expected = state_of(tensors), state_of(numbers)
    for network in ("q_network", "target_network", "average_network"):
        torch.testing.assert_close(found[network], expected[network], rtol=1e-3, atol=1e-4)
    assert found["optimizer"]["param_groups"] == expected["optimizer"]["param_groups"]


@pytest.mark.parametrize("name", ["learning_rate", "tau", "advantage_learning", "averaging_steps"])
def test_every_rate_reaches_a_replayed_step(name: str) -> None:
    states = []
    for value in (None, 1):
        policy = make_small_policy(capturable=True)
        step = GraphedStep(policy, make_filled_buffer(), FakeGraph())
        for i in range(12):
            if i == 8 and value is not None:
                setattr(policy, name, value)
            step.learn(16, PLAIN, 1)
        states.append(state_of(policy))
    with pytest.raises(AssertionError):
        assert_same(*states)


def test_captured_after_warming_up_and_anew_only_where_something_fixed_changes() -> None:
    _, _, graph = learned_by_graph()
    warmed = ["warm up"] * WARM_UP_STEPS + ["capture"]
    # from the beginning on, and from the four changes on that are not those of a rate; 240 steps in all
    expected: list[str] = []
    for since, until in zip((0, 90, 130, 170, 200), (90, 130, 170, 200, 240), strict=True):
        expected += [*warmed, *["replay"] * (until - since - WARM_UP_STEPS)]
    assert graph.calls == expected


def test_replayed_steps_find_all_tensors_where_they_were() -> None:
    """A graph knows nothing but addresses; a buffer that takes over another one keeps its copy, too."""
    policy, buffer, graph = make_small_policy(capturable=True), make_filled_buffer(), FakeGraph()
    step = GraphedStep(policy, buffer, graph)

    def addresses() -> list[int]:
        kept = [tensor for of_parameter in policy.optimizer.state.values() for tensor in of_parameter.values()]
        networks = policy.q_network, policy.target_network, policy.average_network
        weights = [parameter for network in networks for parameter in network.parameters()]
        rates = [*policy._rates.values(), policy.optimizer.lr]
        copies = [*step._mirror._copies.values(), step._input.whole, step._input.floats]
        return [tensor.data_ptr() for tensor in (*kept, *weights, *rates, *copies)]

    for _ in range(WARM_UP_STEPS + 1):
        step.learn(16, PLAIN, 1)
    captured = addresses()
    policy.learning_rate, policy.tau, policy.advantage_learning = 0.25, 0.5, 0.125
    buffer.take_over(make_filled_buffer(150, seed=3).content())
    policy.state_dict()
    step.learn(16, PLAIN, 2)
    assert addresses() == captured
    assert graph.calls.count("capture") == 1
    batch = step._mirror.batch(step._input)  # of what was taken over
    stored = torch.from_numpy(buffer.rows()["observations"])
    assert torch.equal(batch.observations, stored[step._input.whole[2]])


def test_captured_anew_when_another_state_was_taken_over() -> None:
    """The optimizer then keeps other tensors; and what is learned is as without a graph."""
    states = []
    for graphed in (True, False):
        policy, buffer, graph = make_small_policy(capturable=True), make_filled_buffer(), FakeGraph()
        other = make_small_policy(capturable=True, seed=5)
        step = GraphedStep(policy, buffer, graph)
        for i in range(20):
            if i == 10:
                policy.take_over(other)
            if graphed:
                step.learn(16, PLAIN, 1)
            else:
                policy.learn(buffer.sample(16, PLAIN, 1))
        states.append(state_of(policy))
        assert graph.calls.count("capture") == (2 if graphed else 0)
    assert_same(*states)


def test_network_that_cannot_be_captured_is_told() -> None:
    class Refusing(FakeGraph):
        def capture(self, function: Callable[[], Tensor]) -> None:
            raise torch.AcceleratorError("CUDA error: operation not permitted when stream is capturing\nFor debugging")

    step = GraphedStep(make_small_policy(capturable=True), make_filled_buffer(), Refusing())
    for _ in range(WARM_UP_STEPS):
        step.learn(16, PLAIN, 1)
    with pytest.raises(NetworkError, match=r"says cuda_graph = True, but cannot be captured \(AcceleratorError: CUDA"):
        step.learn(16, PLAIN, 1)


def test_rehearsal_changes_nothing() -> None:
    policy, buffer = make_small_policy(capturable=True), make_filled_buffer()
    before, random = state_of(policy), copy.deepcopy(buffer.random)
    GraphedStep(policy, buffer, FakeGraph()).rehearse(16)
    assert_same(state_of(policy), before)
    assert buffer.random.random() == random.random()
    assert all(parameter.grad is None for parameter in policy.q_network.parameters())


def networks() -> list[tuple[FeatureSet, nn.Module]]:
    seeing = replace(FEATURES, n_neighbours=2)
    return [(FEATURES, DuelingQNetwork(FEATURES.n_features, 8)), (seeing, AttentionQNetwork(seeing, 8))]


@pytest.mark.parametrize("which", [0, 1])
def test_nothing_in_a_step_reads_from_its_device_or_brings_something_there(which: int) -> None:
    """On the device meta, which has no numbers: whoever asks for one, or mixes in what is elsewhere, fails."""
    features, network = networks()[which]
    with torch.device("meta"):
        policy = DDDQNPolicy(
            network.to("meta"),
            learning_rate=0.1,
            tau=0.1,
            advantage_learning=0.5,
            averaging_steps=5,
            max_grad_norm=1.0,
            guide=0.0,
            margin=0.8,
            route_features=None,
            seed=0,
            index=0,
            device="meta",
            capturable=True,
        )
    policy.optimizer = torch.optim.SGD(policy.q_network.parameters())  # Adam's kernel knows no such device
    buffer = ReplayBuffer(20, features, np.random.default_rng(0))
    step = GraphedStep(policy, buffer, FakeGraph())
    buffer.add(made_up_rows(20, features.n_own_features, n_neighbours=features.n_neighbours))
    assert step.learn(8, RewardWeights(0.9, 0.0, 0.0, 0.0), 2).device.type == "meta"
    assert network.cuda_graph
    assert empty_draw(3, torch.device("meta")).whole.device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_gpu_learns_what_the_cpu_learns() -> None:
    """With rates that change, and a graph that is captured anew."""
    buffer, numbers = make_filled_buffer(), learned_plainly(capturable=False)[0]
    policy = make_small_policy(capturable=True, device="cuda")
    step = GraphedStep(policy, buffer)
    learn_through(policy, lambda size: step.learn(size, PLAIN, 3))
    for here, there in zip(numbers.average_network.parameters(), policy.average_network.parameters(), strict=True):
        torch.testing.assert_close(there.cpu(), here, rtol=1e-2, atol=1e-3)
