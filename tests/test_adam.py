import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reinforcement_learning.adam import Adam
from tests.helpers.trainings import assert_same

SHAPES = (), (3,), (4, 2)


def parameters() -> list[Tensor]:
    # their gradients are set by hand
    random = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=random) for shape in SHAPES]


def set_gradients(of: list[Tensor], seed: int, has_gradient: tuple[bool, ...]) -> None:
    random = torch.Generator().manual_seed(seed)
    for parameter, has in zip(of, has_gradient, strict=True):
        gradient = torch.randn(parameter.shape, generator=random)
        parameter.grad = gradient if has else None


def go_on(of: list[Tensor], optimizer: Any, seeds: range, masks: list[tuple[bool, ...]]) -> None:
    for seed in seeds:
        set_gradients(of, seed, masks[seed % len(masks)])
        optimizer.step()


@settings(deadline=None)  # PyTorch's own optimizer imports its compiler
@given(st.lists(st.tuples(*[st.booleans()] * len(SHAPES)).filter(any), min_size=1, max_size=4), st.floats(1e-5, 1.0))
def test_as_pytorch_s_own_to_the_bit_and_each_goes_on_where_the_other_stopped(
    masks: list[tuple[bool, ...]], lr: float
) -> None:
    """Also where parameters have no gradient, in some steps or ever, and where the step size changes."""
    own, theirs = parameters(), parameters()
    optimizer, reference = Adam(own, lr), torch.optim.Adam(theirs, lr=lr, fused=True)
    go_on(own, optimizer, range(5), masks)
    go_on(theirs, reference, range(5), masks)
    assert_same(own, theirs)
    assert_same(optimizer.state_dict(lr), reference.state_dict())

    optimizer.load_state_dict(reference.state_dict())
    reference.load_state_dict(copy.deepcopy(optimizer.state_dict(lr / 2)))
    optimizer.lr = lr / 2
    go_on(own, optimizer, range(5, 9), masks)
    go_on(theirs, reference, range(5, 9), masks)
    assert_same(own, theirs)


def test_step_size_may_be_a_tensor_that_changes() -> None:
    (own, rate), (theirs, other_rate) = ((parameters(), torch.tensor(0.5)) for _ in range(2))
    optimizer, reference = Adam(own, rate), torch.optim.Adam(theirs, lr=other_rate, fused=True)
    for value in (0.5, 0.125):
        rate.fill_(value)
        other_rate.fill_(value)
        go_on(own, optimizer, range(2), [(True, True, True)])
        go_on(theirs, reference, range(2), [(True, True, True)])
    assert_same(own, theirs)


def test_takes_a_copy_of_what_is_stored() -> None:
    first, second = Adam(parameters(), 0.1), Adam(parameters(), 0.1)
    go_on(list(first._parameters), first, range(1), [(True, True, True)])
    second.load_state_dict(first.state_dict(0.1))
    go_on(list(first._parameters), first, range(1), [(True, True, True)])
    assert second.state[0]["step"] == 1


def test_gradients_are_forgotten() -> None:
    own = parameters()
    set_gradients(own, 0, (True, False, True))
    Adam(own, 0.1).zero_grad()
    assert [parameter.grad for parameter in own] == [None] * len(SHAPES)


@pytest.mark.parametrize("stored", [{"state": {3: {"step": torch.ones(())}}}, {"state": {0: [1]}}, {}])
def test_what_is_not_of_such_parameters_is_refused(stored: dict[str, Any]) -> None:
    with pytest.raises((IndexError, AttributeError, KeyError)):
        Adam(parameters(), 0.1).load_state_dict(stored)
