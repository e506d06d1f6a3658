"""A sweep file as Weights & Biases documents it, read for a search on this machine.

What is written: https://docs.wandb.ai/models/sweeps/sweep-config-keys. Whatever this search cannot do is refused.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from reinforcement_learning.search.early_stopping import Hyperband
from reinforcement_learning.search.parameters import Parameter, ParameterError, Value, read_parameter
from reinforcement_learning.settings.command_line import given_options
from reinforcement_learning.settings.config import ConfigError, TrainingConfig
from utils.levels.env_configs import resolve_env_config
from utils.levels.saved_levels import EnvConfigError

METHODS = ("bayes", "random", "grid")
GOALS = ("maximize", "minimize")
PROGRAM = "multi_agent_training.py"
# Options that the search gives to its trainings by itself; metrics.jsonl is what it reads.
_RESERVED = ("checkpoint_dir", "replay_buffer_dir", "output_dir", "run_name", "resume", "jsonl", "progress_bar")
# Keys that only matter to the server of W&B, and those that are read here.
_IGNORED = ("apiVersion", "kind", "controller", "description", "entity", "name", "project")
_KEYS = ("program", "method", "metric", "parameters", "early_terminate", "run_cap")


class SweepError(ConfigError):
    """A sweep file cannot be searched here; the message is one sentence."""


@dataclass(frozen=True)
class Sweep:
    """What is searched, how, and for what.

    Attributes:
        method: one of ``METHODS``.
        metric: a name in ``metrics.jsonl``.
        maximize: whether more of it is better.
        fixed: options of all trainings, with the one value that each has.
        searched: options whose values the search chooses.
        early_stopping: when to stop trainings that fall behind; None: never.
        run_cap: trials of the whole search; None: the file does not say.
    """

    method: str
    metric: str
    maximize: bool
    fixed: Mapping[str, Value]
    searched: tuple[Parameter, ...]
    early_stopping: Hyperband | None = None
    run_cap: int | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What must not change when a search goes on, in plain values: scores could not be compared otherwise."""
        return {
            "method": self.method,
            "metric": self.metric,
            "maximize": self.maximize,
            "fixed": dict(self.fixed),
            "searched": {p.name: p.identity for p in self.searched},
        }

    def arguments(self, chosen: Mapping[str, Value]) -> list[str]:
        """The options of a training in the form in which W&B's agents give them, sorted by name."""
        values = {**self.fixed, **chosen}
        return [f"--{name}={values[name]}" for name in sorted(values)]


def read_sweep(path: Path) -> Sweep:
    """Reads a sweep file.

    Raises:
        SweepError: the file cannot be read or holds what cannot be searched here.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SweepError(f"{path} cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SweepError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    try:
        if not isinstance(content, dict):
            raise SweepError("it must hold keys such as method, metric and parameters")
        return _read(content)
    except (SweepError, ParameterError) as error:
        raise SweepError(f"{path}: {error}.") from error


def _read(content: dict[str, Any]) -> Sweep:
    for key in content:
        if key not in _KEYS + _IGNORED:
            raise SweepError(f"{key!r} is not supported by the local search, which reads {', '.join(_KEYS)}")
    program = content.get("program")
    if not isinstance(program, str) or Path(program).name != PROGRAM:
        raise SweepError(f"program is {program!r}, but must be reinforcement_learning/{PROGRAM}")
    method = content.get("method")
    if method not in METHODS:
        raise SweepError(f"method is {method!r}, but must be one of {', '.join(METHODS)}")
    metric, maximize = _read_metric(content.get("metric"))
    fixed, searched = _read_parameters(content.get("parameters"))
    if method == "grid":
        for parameter in searched:
            parameter.grid()  # raises where there is none
    run_cap = content.get("run_cap")
    if run_cap is not None and (type(run_cap) is not int or run_cap < 1):
        raise SweepError(f"run_cap is {run_cap!r}, but must be a whole number of at least 1")
    return Sweep(method, metric, maximize, fixed, searched, _read_early_stopping(content), run_cap)


def _read_metric(metric: Any) -> tuple[str, bool]:
    example = "give for example metric: {name: evaluation/smoothed_score, goal: maximize}"
    if not isinstance(metric, dict) or not isinstance(metric.get("name"), str):
        raise SweepError(f"metric must have a name; {example}")
    for key in metric:
        if key not in ("name", "goal"):
            raise SweepError(f"metric: {key!r} is not supported by the local search; {example}")
    goal = metric.get("goal", "minimize")  # the default of W&B
    if goal not in GOALS:
        raise SweepError(f"metric: goal is {goal!r}, but must be one of {', '.join(GOALS)}")
    return metric["name"], goal == "maximize"


def _read_parameters(parameters: Any) -> tuple[dict[str, Value], tuple[Parameter, ...]]:
    if not isinstance(parameters, dict) or not parameters:
        raise SweepError("parameters must name options of the training, such as hidden_size: {values: [128, 256]}")
    fixed: dict[str, Value] = {}
    searched = []
    for name, content in parameters.items():
        parameter = read_parameter(name, content)
        for value in parameter.extremes():
            _check_value(name, value)
        if parameter.is_fixed:
            fixed[name] = parameter.extremes()[0]
        else:
            searched.append(parameter)
    if not searched:
        raise SweepError("parameters leave nothing to search: each of them has one value only")
    return fixed, tuple(searched)


def _check_value(name: str, value: Value) -> None:
    """One value of one option; whether the values of several fit together is seen when a trial begins."""
    rows = {row.name: row for row in dataclasses.fields(TrainingConfig)}
    if name not in rows:
        raise SweepError(f"parameters: {name!r} is no option of {PROGRAM}, whose --help lists them")
    if name in _RESERVED:
        raise SweepError(f"parameters: {name!r} cannot be given, because the search sets it for each trial")
    try:
        read = given_options([f"--{name}={value}"])[name]
    except SystemExit:  # which has said what is wrong
        raise SweepError(f"parameters: {name!r} cannot be {value!r}") from None
    accepts = rows[name].metadata["accepts"]
    if not accepts.test(read):
        raise SweepError(f"parameters: {name!r} is {value!r}, but must be {accepts.words}")
    if name in ("training_env_config", "evaluation_env_config"):
        try:
            resolve_env_config(read)
        except EnvConfigError as error:
            raise SweepError(f"parameters: {name!r}: {str(error).rstrip('.')}") from error


def _read_early_stopping(content: dict[str, Any]) -> Hyperband | None:
    if "early_terminate" not in content:
        return None
    found = content["early_terminate"]
    try:
        return Hyperband.read(found)
    except ValueError as error:
        raise SweepError(f"early_terminate: {error}") from error
