"""Parameters of a sweep: the distributions that W&B documents, as Optuna draws them."""

import math
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reinforcement_learning.search.parameters import Parameter, ParameterError, read_parameter


def drawn(parameter: Parameter, n: int = 200) -> list[Any]:
    """Values that Optuna draws at random."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    distributions = {parameter.name: parameter.distribution()}
    return [parameter.value(study.ask(distributions).params[parameter.name]) for _ in range(n)]


def test_min_and_max_are_whole_if_both_are():
    assert set(drawn(read_parameter("x", {"min": 1, "max": 3}))) == {1, 2, 3}
    values = drawn(read_parameter("x", {"min": 1, "max": 3.0}))
    assert len(set(values)) == 200
    assert all(type(value) is float and 1 <= value <= 3 for value in values)


def test_logarithmic_distributions_give_every_power_its_share():
    by_values = drawn(read_parameter("x", {"distribution": "log_uniform_values", "min": 1.0e-4, "max": 1.0}), 400)
    by_exponents = drawn(read_parameter("x", {"distribution": "log_uniform", "min": math.log(1e-4), "max": 0}), 400)
    for values in (by_values, by_exponents):
        assert 1e-4 <= min(values) < 2e-4
        assert 0.5 < max(values) <= 1
        below = sum(value < 1e-2 for value in values)  # half of the powers
        assert 150 < below < 250


@pytest.mark.parametrize(
    ("content", "multiples"),
    [
        ({"distribution": "q_uniform", "min": 0, "max": 0.5, "q": 0.1}, {0.0, 0.1, 0.2, 0.3, 0.4, 0.5}),
        ({"distribution": "q_uniform", "min": 1.0, "max": 4.0}, {1, 2, 3, 4}),
        ({"distribution": "q_log_uniform_values", "min": 32, "max": 128, "q": 32}, {32, 64, 96, 128}),
        ({"distribution": "q_log_uniform", "min": 0, "max": math.log(3)}, {1, 2, 3}),
    ],
)
def test_quantised_distributions_give_multiples(content, multiples):
    values = drawn(read_parameter("x", content))
    assert set(values) == multiples
    whole = content.get("q", 1) >= 1
    assert all(type(value) is (int if whole else float) for value in values)


def test_values_keep_their_types_and_come_once():
    parameter = read_parameter("x", {"values": ["a", 2, 0.5, True, 2]})
    assert parameter.choices == ("a", 2, 0.5, True)
    assert set(drawn(parameter)) == {"a", 2, 0.5, True}


@pytest.mark.parametrize(
    "content", [{"value": 3}, {"values": [3]}, {"distribution": "constant", "value": 3}, {"min": 3, "max": 3}]
)
def test_one_value_is_fixed(content):
    parameter = read_parameter("x", content)
    assert parameter.is_fixed
    assert parameter.extremes()[0] == 3


def test_grids():
    assert read_parameter("x", {"values": [3, 1]}).grid() == (3, 1)
    assert read_parameter("x", {"min": 2, "max": 5}).grid() == (2, 3, 4, 5)
    assert read_parameter("x", {"distribution": "q_uniform", "min": 0.1, "max": 0.4, "q": 0.1}).grid() == (
        0.1,
        0.2,
        0.3,
        0.4,
    )
    for content in (
        {"min": 0.0, "max": 1.0},
        {"min": 0, "max": 100_000},
        {"distribution": "log_uniform", "min": 0, "max": 1},
    ):
        with pytest.raises(ParameterError, match="no list of values"):
            read_parameter("x", content).grid()


@settings(max_examples=100, deadline=None)
@given(
    low=st.integers(1, 1000),
    width=st.integers(1, 1000),
    q=st.sampled_from([0.25, 0.1, 1, 8, 50]),
    distribution=st.sampled_from(["q_uniform", "q_log_uniform_values"]),
    share=st.floats(0, 1),
)
def test_quantised_values_lie_within_half_a_quantum_of_the_range(low, width, q, distribution, share):
    parameter = read_parameter("x", {"distribution": distribution, "min": low, "max": low + width, "q": q})
    value = parameter.value(low + share * width)
    assert value / q == pytest.approx(round(value / q))
    assert low - q / 2 - 1e-9 <= value <= low + width + q / 2 + 1e-9
    assert parameter.value(value) == value


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (5, "is 5, but must have values"),
        ({}, "has nothing"),
        ({"values": []}, "a list of at least one value"),
        ({"values": 3}, "a list of at least one value"),
        ({"values": [[1], [2]]}, "numbers, texts, true or false"),
        ({"value": None}, "numbers, texts, true or false"),
        ({"min": 1}, "has min 1"),
        ({"min": 2, "max": 1}, "min must be at most max"),
        ({"min": "1e-4", "max": 1}, "text in YAML"),
        ({"min": 0, "max": True}, "max is True"),
        ({"min": 0, "max": math.inf}, "max is inf"),
        ({"min": 0, "max": 1, "q": 0.1}, "q belongs to"),
        ({"min": 0, "max": 1, "q": 0, "distribution": "q_uniform"}, "q is 0"),
        ({"min": 0, "max": 1, "distribution": "log_uniform_values"}, "min must be above 0"),
        ({"min": 0, "max": 1000, "distribution": "log_uniform"}, "exponent of e"),
        ({"min": 0.5, "max": 1, "distribution": "int_uniform"}, "needs whole numbers"),
        ({"mu": 0, "sigma": 1, "distribution": "normal"}, "has mu 0"),
        ({"values": [1, 2], "probabilities": [0.5, 0.5]}, "has values"),
        ({"parameters": {"a": {"value": 1}}}, "has parameters"),
    ],
)
def test_what_cannot_be_searched_is_said_in_one_sentence(content, words):
    with pytest.raises(ParameterError) as error:
        read_parameter("x", content)
    assert words in str(error.value)
    assert "'x'" in str(error.value)
    assert "\n" not in str(error.value)
