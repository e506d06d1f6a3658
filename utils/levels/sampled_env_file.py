"""Reads the JSON file that describes sampled levels on a saved map."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from utils.levels.sampled_envs import Disruptions, SampledEnv, SavedMap
from utils.levels.saved_levels import EnvConfigError
from utils.system.files import why_unreadable

SAMPLED_ENV_SUFFIX = ".json"


def is_sampled_env_path(text: str) -> bool:
    """Whether a text is the path of such a file; the suffix may be written in capitals."""
    return Path(text.strip()).suffix.lower() == SAMPLED_ENV_SUFFIX


_Value = tuple[str, Callable[[Any], bool]]
"""What a key accepts, in words and as a test."""


def _is_whole(value: Any, low: int) -> bool:
    return type(value) is int and value >= low


def _is_pair(value: Any, low: int) -> bool:
    is_pair = isinstance(value, list) and len(value) == 2 and all(_is_whole(number, low) for number in value)
    return is_pair and value[0] <= value[1]


def _whole(low: int) -> _Value:
    return f"a whole number of at least {low}", lambda value: _is_whole(value, low)


def _range(low: int) -> _Value:
    words = f"a whole number of at least {low}, or two of them, the smaller first"
    return words, lambda value: _is_whole(value, low) or _is_pair(value, low)


def _number(low: float) -> _Value:
    words = f"a finite number of at least {low:g}"
    return words, lambda value: type(value) in (int, float) and math.isfinite(value) and value >= low


_TEXT: _Value = "a text", lambda value: isinstance(value, str) and value != ""
_DISRUPTIONS: _Value = 'as {"interval": 540, "duration": [20, 50]}', lambda value: isinstance(value, dict)
_KEYS = {
    "map": _TEXT,
    "stations": _TEXT,
    "scene": _TEXT,
    "trains": _range(1),
    "lines": _whole(1),
    "line_length": _range(2),
    "interval": _whole(1),
    "travel_factor": _number(1),
    "max_episode_steps": _whole(1),
    "malfunctions": _DISRUPTIONS,
    "departure_delays": _DISRUPTIONS,
}
_KEYS_OF_DISRUPTIONS = {"interval": _number(1), "duration": _range(1)}


def read_sampled_env(path: Path) -> SampledEnv:
    """The environment that a file describes, the files that it names read and checked.

    Paths in it are relative to its folder. ``docs/environments.md`` has all keys.

    Raises:
        EnvConfigError: it cannot be read, holds something else, or names files that cannot be used.
    """
    where = f"the levels {str(path)!r}"
    if why := why_unreadable(path):
        raise EnvConfigError(f"{where} {why}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_each_key_once)
    except (OSError, ValueError, RecursionError) as error:
        raise EnvConfigError(f"{where} cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise EnvConfigError(f"{where} must hold a JSON object with the keys {', '.join(_KEYS)}")
    _check(content, _KEYS, ("map", "trains"), where)
    for name in ("malfunctions", "departure_delays"):
        if name in content:
            content[name] = _disruptions(content[name], f"{name} in {where}")
    if "line_length" in content:
        content["waypoints"] = _waypoints(content.pop("line_length"))
    stations = path.parent / content.pop("stations") if "stations" in content else None
    source = SavedMap(path.parent / content.pop("map"), stations, content.pop("scene", None))
    env = SampledEnv(path.stem, source, _pair(content.pop("trains")), **content)
    env.check()
    return env


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key stands there twice")
    return content


def _check(content: Mapping[str, Any], keys: Mapping[str, _Value], needed: tuple[str, ...], where: str) -> None:
    for name in needed:
        if name not in content:
            raise EnvConfigError(f"{where} lack the key {name!r}")
    for name, value in content.items():
        if name not in keys:
            raise EnvConfigError(f"{where} have an unknown key {name!r}: known are {', '.join(keys)}")
        words, fits = keys[name]
        if not fits(value):
            raise EnvConfigError(f"{name!r} in {where} is {json.dumps(value)}, but must be {words}")


def _disruptions(content: Mapping[str, Any], where: str) -> Disruptions:
    _check(content, _KEYS_OF_DISRUPTIONS, ("interval", "duration"), where)
    return Disruptions(content["interval"], *_pair(content["duration"]))


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _waypoints(line_length: Any) -> tuple[int, int]:
    """A single number is the most; from three stations on, each line is to have a stop on its way."""
    return (min(3, line_length), line_length) if isinstance(line_length, int) else _pair(line_length)
