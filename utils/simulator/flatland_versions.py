"""Where flatland-rl 4.2.6, which some graders run, differs from 4.3.0, for all that plays: nothing else need know.

Evaluation and submissions play on both. Training and the compiled simulator are for 4.3.0 alone.
"""

from typing import Any, TypeVar

from flatland.core.effects_generator import EffectsGenerator, MultiEffectsGeneratorWrapped
from flatland.core.env_observation_builder import ObservationBuilder
from flatland.envs import rewards
from flatland.envs.rail_env import RailEnv
from flatland.envs.rail_trainrun_data_structures import Waypoint

_Effects = TypeVar("_Effects", bound=EffectsGenerator)

_IS_OLDER = hasattr(ObservationBuilder, "set_env")

CHOSEN_STOPS_COST = _IS_OLDER
"""Whether a stop that was asked for costs a train as much as one that was forced upon it: its collision factor."""


def find_all_effects_generators(effects: EffectsGenerator, kind: type[_Effects]) -> list[_Effects]:
    """All effects of a kind, those inside others too; 4.2.6 has no function for it."""
    found = [effects] if isinstance(effects, kind) else []
    if isinstance(effects, MultiEffectsGeneratorWrapped):
        for inner in effects.effects_generators:
            found += find_all_effects_generators(inner, kind)
    return found


def configuration_of_waypoint(waypoint: Any) -> tuple[tuple[int, int], int | None]:
    """Where an alternative of a stop lies; 4.3.0 also has them as plain configurations."""
    return (waypoint.position, waypoint.direction) if isinstance(waypoint, Waypoint) else waypoint


class _DelayRewards(rewards.DefaultRewards):
    """The parameters of 4.3.0's ``DelayRewards``."""

    def __init__(self) -> None:
        super().__init__(
            cancellation_factor=0.0,
            intermediate_not_served_penalty=0.0,
            intermediate_late_arrival_penalty_factor=0.0,
            intermediate_early_departure_penalty_factor=0.0,
        )


DelayRewards: type[rewards.DefaultRewards] = _DelayRewards if _IS_OLDER else rewards.DelayRewards


class BuilderOfBothVersions(ObservationBuilder):
    """An observation builder for both versions: 4.2.6 calls ``set_env(env)`` and ``reset()``, 4.3.0 ``reset(env)``."""

    def set_env(self, env: RailEnv) -> None:
        """Gets an environment before it is reset or loaded from a file; 4.3.0 does not call it."""
        self.env = env

    def reset(self, env: RailEnv | None = None) -> None:
        """Gets an environment that was reset or loaded from a file; None for the one of ``set_env``."""
        if env is not None:
            self.env = env


def reset_builder(builder: Any, env: RailEnv) -> None:
    """Gives an environment to an observation builder, which may be a user's own, as the installed version does."""
    if _IS_OLDER:
        builder.set_env(env)
        builder.reset()
    else:
        builder.reset(env)
