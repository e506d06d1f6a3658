"""Stopping trainings early: the examples follow from W&B's own rule (package ``sweeps`` 0.3.0, hyperband_stopping)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reinforcement_learning.search.early_stopping import Hyperband

LOSSES = {"a": [10, 9], "b": [10, 10], "c": [10, 8, 8], "d": [10, 7, 7], "e": [10, 6, 6]}
HISTORIES = st.lists(st.lists(st.integers(-9, 9), min_size=1, max_size=12), min_size=1, max_size=8)


def stopped(rule: Hyperband, histories: dict[str, list[float]]) -> set[str]:
    return {
        name
        for name, values in histories.items()
        if rule.should_stop(values, [other for key, other in histories.items() if key != name])
    }


def test_bands_grow_from_the_first_or_shrink_from_the_last():
    assert Hyperband.read({"type": "hyperband", "min_iter": 5, "eta": 2}).bands[:4] == (5, 10, 20, 40)
    assert Hyperband.read({"type": "hyperband", "min_iter": 3}).bands[:3] == (3, 9, 27)
    assert Hyperband.read({"type": "hyperband", "max_iter": 27, "s": 2, "eta": 3}).bands == (3, 9)
    assert Hyperband.read({"type": "hyperband", "max_iter": 5, "s": 9, "eta": 2}).bands == (1, 2)


def test_those_below_the_better_share_are_stopped():
    """The example in the documentation of the package ``sweeps``."""
    rule = Hyperband.read({"type": "hyperband", "max_iter": 5, "eta": 2, "s": 2})
    assert stopped(rule, {name: [-loss for loss in losses] for name, losses in LOSSES.items()}) == {"a", "b"}


def test_strict_looks_at_the_band_only_and_otherwise_the_best_so_far_counts():
    histories = {"late": [0, 0, 5], "early": [3, 3, 3], "other": [2, 2, 2]}
    rule = {"type": "hyperband", "min_iter": 2, "eta": 3}
    assert stopped(Hyperband.read(rule), histories) == set()
    assert stopped(Hyperband.read({**rule, "eta": 1.5}), histories) == set()
    assert stopped(Hyperband.read({**rule, "strict": True, "eta": 1.5}), histories) == set()
    assert stopped(Hyperband.read({**rule, "strict": True}), histories) == {"late"}


@given(HISTORIES, st.sampled_from([1.5, 2, 3, 4]), st.booleans())
def test_the_best_goes_on_and_nobody_is_judged_before_the_first_band(histories, eta, strict):
    rule = Hyperband.read({"type": "hyperband", "min_iter": 3, "eta": eta, "strict": strict})
    named = {str(i): values for i, values in enumerate(histories)}
    ended = stopped(rule, named)
    assert all(len(named[name]) >= 3 for name in ended)
    assert not rule.should_stop([9] * 12, histories)


@pytest.mark.parametrize(
    "content",
    [
        None,
        {"type": "median"},
        {"type": "hyperband"},
        {"type": "hyperband", "min_iter": 0},
        {"type": "hyperband", "min_iter": True},
        {"type": "hyperband", "min_iter": 3, "eta": 1},
        {"type": "hyperband", "min_iter": 3, "max_iter": 9, "s": 2},
        {"type": "hyperband", "max_iter": 9},
        {"type": "hyperband", "max_iter": 1, "s": 2},
        {"type": "hyperband", "min_iter": 3, "strict": "yes"},
    ],
)
def test_rules_that_cannot_be_used(content):
    with pytest.raises(ValueError, match=r"type|min_iter|max_iter|eta|strict|\bs\b"):
        Hyperband.read(content)
