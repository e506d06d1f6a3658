"""Sweep files: what is read, and the sentence about what cannot be searched."""

from pathlib import Path
from typing import Any

import pytest

from reinforcement_learning.search.early_stopping import Hyperband
from reinforcement_learning.search.sweep_file import SweepError, read_sweep
from reinforcement_learning.settings.command_line import given_options
from reinforcement_learning.settings.config import make_config
from tests.helpers.searches import METRIC, make_sweep, write_sweep
from utils.system.files import PROJECT_ROOT

HIDDEN = {"hidden_size": {"values": [128, 256]}}


def test_shipped_file_is_read_as_it_stands():
    sweep = read_sweep(PROJECT_ROOT / "sweep.yaml")
    assert (sweep.method, sweep.metric, sweep.maximize, sweep.early_stopping) == ("bayes", METRIC, True, None)
    assert sweep.fixed == {"n_episodes": 2000}
    choices = {parameter.name: parameter.choices for parameter in sweep.searched}
    assert choices == {
        "hidden_size": (128, 256, 512),
        "buffer_size": (50_000, 100_000, 500_000, 1_000_000),
        "batch_size": (16, 32, 64, 128),
        "training_env_config": (0, 1, 2),
    }


def test_arguments_are_those_of_an_agent(tmp_path):
    sweep = make_sweep(tmp_path, HIDDEN | {"action_mask": {"value": True}, "gamma": {"min": 0.9, "max": 0.99}})
    arguments = sweep.arguments({"hidden_size": 256, "gamma": 0.95})
    assert arguments == ["--action_mask=True", "--gamma=0.95", "--hidden_size=256"]
    config = make_config(given_options(arguments))
    assert (config.action_mask, config.gamma, config.hidden_size) == (True, 0.95, 256)


def test_what_the_server_would_read_is_passed_over_and_the_rest_is_read(tmp_path):
    rule = {"type": "hyperband", "min_iter": 5, "eta": 2}
    metric = {"name": METRIC}  # the default of W&B is to minimize
    sweep = make_sweep(
        tmp_path, HIDDEN, project="p", entity="e", description="d", name="n", run_cap=7, early_terminate=rule,
        metric=metric,
    )  # fmt: skip
    assert sweep.run_cap == 7
    assert not sweep.maximize
    assert sweep.early_stopping == Hyperband.read(rule)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"program": "train.py"}, "program is 'train.py'"),
        ({"program": None}, "program is None"),
        ({"method": "custom"}, "method is 'custom', but must be one of bayes, random, grid"),
        ({"method": None}, "method is None"),
        ({"metric": None}, "metric must have a name"),
        ({"metric": {"goal": "maximize"}}, "metric must have a name"),
        ({"metric": {"name": METRIC, "goal": "best"}}, "goal is 'best'"),
        ({"metric": {"name": METRIC, "target": 0.5}}, "'target' is not supported"),
        ({"command": ["python"]}, "'command' is not supported"),
        ({"run_cap": 0}, "run_cap is 0"),
        ({"early_terminate": {"type": "envelope"}}, "early_terminate: it is {'type': 'envelope'}"),
        ({"early_terminate": {"type": "hyperband", "eta": 2, "s": 3}}, "early_terminate: max_iter is None"),
        ({"parameters": None}, "parameters must name options"),
        ({"parameters": {"hidden_size": {"value": 128}}}, "nothing to search"),
        ({"parameters": {"hiden_size": {"values": [1, 2]}}}, "'hiden_size' is no option"),
        ({"parameters": {"run_name": {"values": ["a", "b"]}}}, "'run_name' cannot be given"),
        ({"parameters": {"gamma": {"values": [0.9, 2]}}}, "'gamma' is 2, but must be a number from 0 to 1"),
        ({"parameters": {"gamma": {"min": 0.9, "max": 2.0}}}, "'gamma' is 2.0, but must be a number from 0 to 1"),
        ({"parameters": {"gamma": {"values": ["high", 1]}}}, "'gamma' cannot be 'high'"),
        ({"parameters": {"training_env_config": {"values": [0, 17]}}}, "'training_env_config': "),
        ({"parameters": {"learning_rate": {"min": 0.1, "max": 0.2}}, "method": "grid"}, "no list of values"),
    ],
)
def test_what_cannot_be_searched_is_said_in_one_sentence(tmp_path: Path, keys: dict[str, Any], words: str) -> None:
    path = write_sweep(tmp_path / "sweep.yaml", **({"parameters": HIDDEN} | keys))
    with pytest.raises(SweepError) as error:
        read_sweep(path)
    assert str(error.value).startswith(f"{path}: ")
    assert words in str(error.value)
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"), [("a: [", "is not YAML"), ("- 1", "must hold keys"), (None, "cannot be read")]
)
def test_files_that_are_something_else_are_named(tmp_path, content, words):
    path = tmp_path / "sweep.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SweepError, match=words):
        read_sweep(path)
