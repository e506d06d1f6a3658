"""What the environment rewards, named on the command line: rewards on board, or a class of the user's own."""

import argparse
import dataclasses
import inspect
import math
from functools import lru_cache
from numbers import Real
from typing import Any

from flatland.envs.rewards import DefaultRewards, ECML2026Rewards, Rewards

from reinforcement_learning.settings.extensions import ExtensionError, extension_errors, find_callable
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.simulator.flatland_versions import DelayRewards

REWARDS: dict[str, type[Rewards]] = {"default": DefaultRewards, "ecml2026": ECML2026Rewards, "delay": DelayRewards}
"""Rewards on board, all of them flatland-rl's."""
DEFAULT_REWARDS = "default"


@lru_cache(maxsize=16)
def find_rewards(name: str) -> type[Rewards]:
    """The rewards on board of that name, or a user's ``package.module:Class``, which is tried out on a small level.

    Raises:
        ExtensionError: there is no such class, or it gives something else than a finite number for each train.
    """
    found = find_callable(name, "rewards class", REWARDS)
    if name in REWARDS:
        return REWARDS[name]
    who = f"the rewards class {name!r}"
    if not inspect.isclass(found) or not issubclass(found, Rewards):
        what = "another class" if inspect.isclass(found) else f"a {type(found).__name__}"
        raise ExtensionError(f"{who} is {what}, but must be a subclass of flatland.envs.rewards.Rewards.")
    with extension_errors(f"{who} failed"):
        given = _first_that_is_no_number(found)
    if given:
        raise ExtensionError(f"{who} gave {given[0]!r}, but must give a finite number for each train.")
    return found


def _first_that_is_no_number(rewards: type[Rewards]) -> list[Any]:
    """Plays a small level to its end, no train departing; the first reward that is no finite number, if any is not."""
    if not _is_number(nothing := rewards().empty()):
        return [nothing]
    env = make_rail_env(dataclasses.replace(ENV_CONFIGS["Tiny"], rewards=rewards), 0)
    over = False
    while not over:
        _, given, dones, _ = env.step({})
        if wrong := [value for value in given.values() if not _is_number(value)]:
            return wrong[:1]
        over = dones["__all__"]
    return []


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def add_rewards_option(parser: argparse.ArgumentParser, what_for: str) -> None:
    """Gives a parser the option; ``find_rewards`` finds what it names."""
    parser.add_argument(
        "--rewards",
        default=DEFAULT_REWARDS,
        metavar="NAME",
        help=f"{what_for}: {', '.join(REWARDS)}, or a class of your own as package.module:Class "
        f"(default: {DEFAULT_REWARDS})",
    )
