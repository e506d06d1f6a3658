"""What flatland says of a train that never changes in an episode, for ``RailState``."""

import math
from fractions import Fraction
from typing import Any

from flatland.envs.rail_env import RailEnv

from utils.simulator.state_arrays import OPEN_END

_MAX_DENOMINATOR = 2**20


def denominator_of(agent: Any, env: RailEnv) -> int:
    """The smallest unit in which all speeds and distances that the train can come to have are whole numbers.

    Raises:
        ValueError: the unit is too fine.
    """
    counter = agent.speed_counter
    parts = (counter.max_speed, counter.speed, counter.distance, env.acceleration_delta, env.braking_delta)
    denominator = math.lcm(*(Fraction(part).denominator for part in parts))
    if denominator > _MAX_DENOMINATOR:
        raise ValueError(
            f"train {agent.handle}: speeds in units of 1/{denominator} of a cell are too fine; "
            f"at most 1/{_MAX_DENOMINATOR} is supported"
        )
    return denominator


def constants_of(agent: Any, denominator: int) -> tuple[int, ...]:
    """One column of ``RailState.constants``.

    Raises:
        ValueError: the train has targets in more than one cell.
    """
    cells = {tuple(position) for position, _ in agent.targets}
    if len(cells) != 1:
        raise ValueError(f"train {agent.handle} has targets in {len(cells)} cells; exactly one cell is supported")
    ((target_row, target_column),) = cells
    (row, column), direction = agent.initial_configuration
    return (
        row,
        column,
        int(direction),
        min(agent.earliest_departure, OPEN_END),
        min(agent.latest_arrival, OPEN_END),
        int(agent.speed_counter.max_speed * denominator),
        denominator,
        target_row,
        target_column,
        sum({8 >> int(direction) for _, direction in agent.targets}),
    )
