"""A sweep file of Weights & Biases, https://docs.wandb.ai/models/sweeps/sweep-config-keys, read in Optuna's terms."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner

from reinforcement_learning.settings.command_line import value_of
from reinforcement_learning.settings.config import ConfigError, TrainingConfig
from utils.levels.env_configs import resolve_env_config
from utils.levels.mixtures import resolve_environments
from utils.system.files import why_unreadable

_NUMBERS = _COUNT, _FACTOR = range(1, 10_001), range(2, 101)
_PROGRAMS = ("reinforcement_learning/multi_agent_training.py", "multi_agent_training.py")
_ACCEPTED: dict[str, Sequence[Any]] = dict.fromkeys(("run_cap", "min_iter", "max_iter", "s"), _COUNT)
_ACCEPTED |= {"program": _PROGRAMS, "method": ("bayes", "random", "grid"), "goal": ("maximize", "minimize")}
_ACCEPTED |= {"type": ("hyperband",), "strict": (False, True), "eta": _FACTOR}
_FOR_WANDB = ("apiVersion", "kind", "controller", "description", "entity", "name", "project")  # its server's business
_SET_BY_SEARCH = ("checkpoint_dir", "replay_buffer_dir", "output_dir", "run_name", "resume", "jsonl", "progress_bar")
_RANGE_KEYS = {"distribution", "q"}  # besides min and max
_RANGES = "int_uniform, uniform, q_uniform, log_uniform, q_log_uniform, log_uniform_values, q_log_uniform_values"


@dataclass(frozen=True)
class Sweep:
    """What is searched, how, and for what."""

    content: dict[str, Any]  # of the file
    metric: str  # a name in metrics.jsonl
    goal: str
    fixed: dict[str, Any]  # options that all trials share
    searched: dict[str, BaseDistribution]
    steps: dict[str, float | None]  # values are rounded to multiples

    def options(self, drawn: dict[str, Any]) -> dict[str, Any]:
        """The options of a trial for which Optuna has drawn values."""
        return self.fixed | {name: _rounded(value, self.steps[name]) for name, value in drawn.items()}

    def pruner(self) -> BasePruner:
        """W&B's Hyperband has one bracket, which Optuna calls successive halving; both count evaluations."""
        if (rule := self.content.get("early_terminate")) is None:
            return NopPruner()
        rule = {"eta": 3} | _mapping("early_terminate", rule, ("type",), ("min_iter", "max_iter", "s", "eta", "strict"))
        if set(rule) - {"type", "eta", "strict"} not in ({"min_iter"}, {"max_iter", "s"}):
            raise ValueError(f"early_terminate is {rule!r}, but must have either min_iter, or max_iter and s")
        first = rule["min_iter"] if "min_iter" in rule else max(1, rule["max_iter"] // rule["eta"] ** rule["s"])
        return SuccessiveHalvingPruner(min_resource=first, reduction_factor=rule["eta"])


def read_sweep(path: Path) -> Sweep:
    """Reads a sweep file; raises ConfigError, whose message is one sentence, for what cannot be searched here."""
    if why := why_unreadable(path):
        raise ConfigError(f"{path}: it {why}.")
    try:
        return _read(yaml.safe_load(path.read_text(encoding="utf-8")))
    except RecursionError as error:
        raise ConfigError(f"{path}: it is nested too deep.") from error
    except (OSError, yaml.YAMLError, ValueError, OverflowError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split()).rstrip('.')}.") from error


def grid_values(found: Any) -> list[Any]:
    """All values of a distribution; raises ValueError if there is no list of them, or too long a one."""
    if isinstance(found, CategoricalDistribution):
        return list(found.choices)
    n_steps = 0 if found.log or not found.step else round((found.high - found.low) / found.step)
    if n_steps not in _COUNT:
        raise ValueError(f"method grid takes values, int_uniform and q_uniform, {max(_COUNT)} values at most")
    return [_rounded(found.low + i * found.step, found.step) for i in range(n_steps + 1)]


def _read(content: Any) -> Sweep:
    needed, optional = ("program", "method", "metric", "parameters"), ("early_terminate", "run_cap", *_FOR_WANDB)
    content = _mapping("the file", content, needed, optional)
    metric = _mapping("metric", content["metric"], ("name",), ("goal",))
    sweep = Sweep(content, str(metric["name"]), metric.get("goal", "minimize"), {}, {}, {})  # W&B's default
    sweep.pruner()  # raises where it cannot be used
    accepts = {row.name: row.metadata["accepts"] for row in fields(TrainingConfig) if row.name not in _SET_BY_SEARCH}
    for name, parameter in _mapping("parameters", content["parameters"], (), tuple(accepts)).items():
        try:
            found, step = _read_parameter(parameter)
            # if a training accepts all choices, or both ends of a range, it accepts all values
            values = [_rounded(value, step) for value in getattr(found, "choices", None) or (found.low, found.high)]
            for value in values:
                read = value_of(name, str(value))
                if not accepts[name].test(read):
                    raise ValueError(f"it is {value!r}, but must be {accepts[name].words}")
                if name == "training_env_config":
                    resolve_environments(read)
                elif name == "evaluation_env_config":
                    resolve_env_config(read)
            if content["method"] == "grid" and not found.single():
                grid_values(found)
        except ValueError as error:
            raise ValueError(f"parameters: {name}: {error}") from error
        if found.single():
            sweep.fixed[name] = values[0]
        else:
            sweep.searched[name], sweep.steps[name] = found, step
    if not sweep.searched:
        raise ValueError("parameters leave nothing to search: each of them has one value only")
    return sweep


def _read_parameter(content: Any) -> tuple[Any, float | None]:
    """The values that an option may take, and the step to which Optuna does not round logarithmic ones."""
    match content:
        case {"value": bool() | int() | float() | str() as value, **more} if more in ({}, {"distribution": "constant"}):
            return CategoricalDistribution([value]), None
        case {"values": [_, *_] as values, **more} if more in ({}, {"distribution": "categorical"}):
            if all(isinstance(value, bool | int | float | str) for value in values):
                return CategoricalDistribution(list(dict.fromkeys(values))), None
        case {"min": int() | float() as low, "max": int() | float() as high, **more} if set(more) <= _RANGE_KEYS:
            whole = isinstance(low, int) and isinstance(high, int)
            kind, q = more.get("distribution", "int_uniform" if whole else "uniform"), more.get("q", 1)
            if kind in ("log_uniform", "q_log_uniform"):  # the ends are exponents of e, of which floats hold 709
                low, high = math.exp(min(low, 709)), math.exp(min(high, 709))
            if kind in ("q_uniform", "q_log_uniform", "q_log_uniform_values") and isinstance(q, int | float) and q > 0:
                # multiples of q between the ends; 0.3 / 0.1 is a little below 3
                low, high = math.ceil(round(low / q, 9)) * q, math.floor(round(high / q, 9)) * q
                step = q if kind == "q_uniform" else None
                return FloatDistribution(_rounded(low, q), _rounded(high, q), log=step is None, step=step), q
            if kind == "int_uniform" and whole and "q" not in more:
                return IntDistribution(low, high), None
            if kind in ("uniform", "log_uniform", "log_uniform_values") and "q" not in more:
                return FloatDistribution(low, high, log=kind != "uniform"), None
    ranges = f"min and max as numbers such as 1.0e-4 (in YAML 1e-4 is text) with a distribution of {_RANGES}"
    raise ValueError(f"it is {content!r}, but must have values, a value, or {ranges}; q is above 0")


def _rounded(value: Any, step: float | None) -> Any:
    return value if step is None else round(round(value / step) * step, 12)  # 3 * 0.1 is 0.30000000000000004


def _mapping(where: str, given: Any, needed: Sequence[str], optional: Sequence[str]) -> dict[str, Any]:
    """Checks the keys of a mapping, and the values of those for which there is a list of values."""
    keys = (*needed, *optional)
    if not isinstance(given, dict) or not given:
        raise ValueError(f"{where} is {given!r}, but must have keys such as {', '.join(keys[:4])}")
    for key in (*needed, *given):
        if key not in keys or key not in given:
            known = ", ".join(keys) if len(keys) < 20 else "options of the training that the search does not set itself"
            raise ValueError(
                f"{where}: {key!r} is {'not accepted' if key in given else 'missing'}, the keys are {known}"
            )
        accepted = _ACCEPTED.get(key, [given[key]])
        if type(given[key]) is not type(accepted[0]) or given[key] not in accepted:
            words = f"whole numbers from {accepted[0]} on" if accepted in _NUMBERS else ", ".join(map(str, accepted))
            raise ValueError(f"{where}: {key} is {given[key]!r}, but accepted are {words}")
    return given
