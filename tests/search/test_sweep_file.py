"""Sweep files: what is read, and the sentence about what cannot be searched."""

import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reinforcement_learning.hyperparameter_search import main
from reinforcement_learning.search.sweep_file import Sweep, grid_values, read_sweep
from tests.helpers.searches import write_sweep
from utils.system.files import PROJECT_ROOT

HIDDEN = {"hidden_size": {"values": [128, 256]}}
METRIC = "evaluation/smoothed_score"


def draw(sweep: Sweep, n: int) -> list[dict[str, Any]]:
    """The options of trials whose values Optuna draws at random."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [sweep.options(study.ask(sweep.searched).params) for _ in range(n)]


def test_shipped_file_is_read_as_it_stands() -> None:
    sweep = read_sweep(PROJECT_ROOT / "sweep.yaml")
    assert (sweep.content["method"], sweep.metric, sweep.goal) == ("bayes", METRIC, "maximize")
    assert {name: found.choices for name, found in sweep.searched.items()} == {
        "hidden_size": (128, 256, 512),
        "buffer_size": (50_000, 100_000, 500_000, 1_000_000),
        "batch_size": (16, 32, 64, 128),
        "training_env_config": (0, 1, 2),
    }
    assert all(options["n_episodes"] == 2000 for options in draw(sweep, 3))


def test_values_keep_their_types_and_one_value_is_fixed(tmp_path: Path) -> None:
    parameters = {
        "training_env_config": {"values": ["Tiny", 2, 2, "Tiny,2"]},
        "action_mask": {"values": [True, False], "distribution": "categorical"},
        "seed": {"min": 1, "max": 3},
        "gamma": {"min": 0.5, "max": 1},
        "n_step": {"min": 3, "max": 3},
        "batch_size": {"value": 16, "distribution": "constant"},
    }
    sweep = read_sweep(write_sweep(tmp_path / "sweep.yaml", parameters, method="random", name="n", project="p"))
    drawn = draw(sweep, 100)
    assert {options["training_env_config"] for options in drawn} == {"Tiny", 2, "Tiny,2"}
    assert {options["action_mask"] for options in drawn} == {True, False}
    assert {options["seed"] for options in drawn} == {1, 2, 3}
    assert len({options["gamma"] for options in drawn}) == 100
    assert all((options["n_step"], options["batch_size"]) == (3, 16) for options in drawn)


@given(
    low=st.integers(1, 50),
    n_steps=st.integers(1, 20),
    q=st.sampled_from([1, 2, 0.5, 0.1, 0.25]),
    kind=st.sampled_from(["q_uniform", "q_log_uniform", "q_log_uniform_values"]),
)
def test_quantised_values_are_multiples_between_the_ends(
    tmp_path_factory: pytest.TempPathFactory, low: int, n_steps: int, q: float, kind: str
) -> None:
    ends = [low * q, (low + n_steps) * q]
    minimum, maximum = map(math.log, ends) if kind == "q_log_uniform" else ends
    # every finite number above 0 is a shaping weight
    parameters = {"arrival_reward": {"distribution": kind, "min": minimum, "max": maximum, "q": q}}
    path = write_sweep(tmp_path_factory.mktemp("q") / "sweep.yaml", parameters, method="random")
    sweep = read_sweep(path)
    multiples = {round(i * q, 12) for i in range(low, low + n_steps + 1)}
    assert {options["arrival_reward"] for options in draw(sweep, 20)} <= multiples
    if kind == "q_uniform":
        assert set(grid_values(sweep.searched["arrival_reward"])) == multiples


@pytest.mark.parametrize("by", ["log_uniform", "log_uniform_values"])
def test_logarithmic_values_give_every_power_its_share(tmp_path: Path, by: str) -> None:
    ends = {"min": 1.0e-4, "max": 1.0} if by == "log_uniform_values" else {"min": math.log(1e-4), "max": 0}
    parameters = {"learning_rate": {"distribution": by, **ends}}
    values = [
        o["learning_rate"] for o in draw(read_sweep(write_sweep(tmp_path / "s", parameters, method="random")), 400)
    ]
    assert 1e-4 <= min(values) < 2e-4
    assert 150 < sum(value < 1e-2 for value in values) < 250  # half of the powers


@pytest.mark.parametrize(
    ("rule", "bands"),
    [({"min_iter": 2, "eta": 2}, {2, 4, 8}), ({"min_iter": 3}, {3, 9}), ({"max_iter": 8, "s": 2, "eta": 2}, {2, 4, 8})],
)
def test_hyperband_stops_the_worse_at_its_bands_only(tmp_path: Path, rule: dict[str, int], bands: set[int]) -> None:
    path = write_sweep(tmp_path / "sweep.yaml", HIDDEN, early_terminate={"type": "hyperband", **rule})
    study = optuna.create_study(direction="maximize", pruner=read_sweep(path).pruner())
    good, bad = study.ask(), study.ask()
    stopped = set()
    for step in range(1, 11):
        good.report(1.0, step)
        assert not good.should_prune()
        bad.report(0.0, step)
        stopped |= {step} if bad.should_prune() else set()
    assert stopped == bands


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"program": "train.py"}, "program is 'train.py'"),
        ({"program": None}, "'program' is missing"),
        ({"method": "custom"}, "method is 'custom', but accepted are bayes, random, grid"),
        ({"metric": {"goal": "maximize"}}, "metric: 'name' is missing"),
        ({"metric": {"name": METRIC, "goal": "best"}}, "goal is 'best'"),
        ({"metric": {"name": METRIC, "target": 0.5}}, "'target' is not accepted"),
        ({"command": ["python"]}, "'command' is not accepted"),
        ({"run_cap": 0}, "run_cap is 0"),
        ({"run_cap": True}, "run_cap is True"),
        ({"early_terminate": {"type": "envelope"}}, "type is 'envelope'"),
        ({"early_terminate": {"type": "hyperband", "eta": 2, "s": 3}}, "either min_iter, or max_iter and s"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 2, "eta": 1.5}}, "eta is 1.5"),
        ({"parameters": None}, "'parameters' is missing"),
        ({"parameters": {"hidden_size": {"value": 128}}}, "nothing to search"),
        ({"parameters": {"hiden_size": {"values": [1, 2]}}}, "'hiden_size' is not accepted"),
        ({"parameters": {"run_name": {"values": ["a", "b"]}}}, "'run_name' is not accepted"),
        ({"parameters": {"gamma": {"values": [0.9, 2]}}}, "gamma: it is 2, but must be a number from 0 to 1"),
        ({"parameters": {"gamma": {"min": 0.9, "max": 2.0}}}, "gamma: it is 2.0, but must be a number from 0 to 1"),
        ({"parameters": {"gamma": {"min": 0.9, "max": 0.5}}}, "low=0.9, high=0.5"),
        ({"parameters": {"gamma": {"values": [math.nan, 0.5]}}}, "gamma: it is nan"),
        ({"parameters": {"gamma": {"values": [None, 0.5]}}}, "gamma: it is {'values': [None, 0.5]}"),
        ({"parameters": {"gamma": {"values": ["high", 0.5]}}}, "gamma: 'high' is not a number"),
        ({"parameters": {"dagger": {"values": [2, 0]}}}, "dagger: '2' is neither True nor False"),
        ({"parameters": {"gamma": {"values": []}}}, "gamma: it is {'values': []}"),
        ({"parameters": {"gamma": {"min": 0.5, "max": 1, "q": 0.1}}}, "gamma: it is {"),
        ({"parameters": {"gamma": {"distribution": "normal", "mu": 1}}}, "gamma: it is {"),
        ({"parameters": {"gamma": 0.5}}, "gamma: it is 0.5"),
        ({"parameters": {"learning_rate": {"min": "1e-4", "max": 1}}}, "in YAML 1e-4 is text"),
        ({"parameters": {"training_env_config": {"values": [0, 17]}}}, "unknown environment 17"),
        ({"parameters": {"training_env_config": {"values": [0, "0,0"]}}}, "'Test_0' is given twice"),
        ({"parameters": {"evaluation_env_config": {"values": [0, "0,1"]}}}, "unknown environment '0,1'"),
        ({"parameters": {"learning_rate": {"min": 0.1, "max": 0.2}}}, "method grid takes values"),
        ({"parameters": {"seed": {"min": 0, "max": 100_000}}}, "10000 values at most"),
    ],
)
def test_what_cannot_be_searched_is_said_in_one_sentence_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], keys: dict[str, Any], words: str
) -> None:
    path = write_sweep(tmp_path / "sweep.yaml", **({"parameters": HIDDEN} | keys))
    assert main(["--sweep", str(path), "--study", str(tmp_path / "study")]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert f"{path}: " in err
    assert words in err
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a: [", "expected"),
        ("- 1", "must have keys"),
        ("", "must have keys"),
        (None, "does not exist"),
        ("[" * 3000, "nested too deep"),
    ],
)
def test_files_that_are_something_else_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, words: str
) -> None:
    path = tmp_path / "sweep.yaml"
    if content is not None:
        path.write_text(content)
    assert main(["--sweep", str(path), "--study", str(tmp_path / "study")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"{path}: " in err
    assert words in err
