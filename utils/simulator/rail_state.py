"""``RailState``: one level and the trains on it as plain arrays.

Observations, action masks and policies only ever see these arrays. What compiled code knows of them is in
``state_arrays``; in Python the rows of the tables are properties of ``RailState``, which are views.
"""

import struct
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from utils.simulator import state_arrays as rows
from utils.simulator.state_arrays import StateArrays, travel_time_of
from utils.simulator.stops import Stops
from utils.system.compiled import Arrays, compiled

if TYPE_CHECKING:
    from flatland.envs.rail_env import RailEnv

_N_READ = rows.NEXT_STOP  # rows that ``update`` reads from flatland
_NOWHERE = ((-1, -1), -1)


class _TableRow:
    """A property that is a view, int32 [trains], of one row of a table of ``RailState``."""

    def __init__(self, table: str, row: int) -> None:
        self._table = table
        self._row = row

    def __get__(self, state: "RailState", owner: type) -> NDArray[np.int32]:
        row: NDArray[np.int32] = getattr(state, self._table)[self._row]
        return row


class RailState:
    """A level and its trains.

    Attributes:
        grid: uint16 [height, width], flatland's transition bits.
        distance_map: float64 [trains, height, width, 4], cells to the train's target, inf if unreachable. Shared
            with the environment, not copied: it is by far the largest array of a level.
        maps: float64 [trains + maps of stops, height, width, 4], the distance map, and behind it that of ``stops``.
        level_free: bool [height, width], crossings on two levels, which hold one train for each axis.
        has_target: bool [height, width], cells that are the target of some train.
        constants: int32 [N_CONSTANTS, trains].
        dynamic: int32 [N_DYNAMIC, trains].
        stops: the intermediate stops of the trains.
        served: bool [n_places], in which of ``stops.places`` their trains have stopped.
        goes_to_stops: whether trains go to their stops, or only to their targets.
        reward_weights: float64 [N_WEIGHTS], the parameters of the rewards, see ``rail_rewards``; those of flatland's
            usual ones where they are of another kind.
        elapsed_steps, max_episode_steps: steps done, and the step at which the episode ends.
        plan_ahead: what was planned for the level when it was made, see ``kept_plans``; b"" where nothing was.
        occupant: int32 [2 x cells], scratch memory of compiled functions; all zero between their calls.
        arrays, stop_arrays: the fields of ``StateArrays`` and ``Stops``. No array is ever replaced by another one.
        has_stops: whether any train has one.
    """

    initial_row = _TableRow("constants", rows.INITIAL_ROW)
    initial_column = _TableRow("constants", rows.INITIAL_COLUMN)
    initial_direction = _TableRow("constants", rows.INITIAL_DIRECTION)
    earliest_departure = _TableRow("constants", rows.EARLIEST_DEPARTURE)
    latest_arrival = _TableRow("constants", rows.LATEST_ARRIVAL)
    max_speed = _TableRow("constants", rows.MAX_SPEED)
    denominator = _TableRow("constants", rows.DENOMINATOR)
    target_row = _TableRow("constants", rows.TARGET_ROW)
    target_column = _TableRow("constants", rows.TARGET_COLUMN)
    target_directions = _TableRow("constants", rows.TARGET_DIRECTIONS)

    state = _TableRow("dynamic", rows.STATE)
    previous_state = _TableRow("dynamic", rows.PREVIOUS_STATE)
    row = _TableRow("dynamic", rows.ROW)
    column = _TableRow("dynamic", rows.COLUMN)
    direction = _TableRow("dynamic", rows.DIRECTION)
    distance_in_cell = _TableRow("dynamic", rows.DISTANCE_IN_CELL)
    speed = _TableRow("dynamic", rows.SPEED)
    malfunction = _TableRow("dynamic", rows.MALFUNCTION_COUNTER)
    n_malfunctions = _TableRow("dynamic", rows.N_MALFUNCTIONS)
    arrival_time = _TableRow("dynamic", rows.ARRIVAL_TIME)
    arrived_row = _TableRow("dynamic", rows.ARRIVED_ROW)
    arrived_column = _TableRow("dynamic", rows.ARRIVED_COLUMN)
    arrived_direction = _TableRow("dynamic", rows.ARRIVED_DIRECTION)
    next_stop = _TableRow("dynamic", rows.NEXT_STOP)
    next_map = _TableRow("dynamic", rows.NEXT_MAP)
    stops_to_serve = _TableRow("dynamic", rows.STOPS_TO_SERVE)
    halts = _TableRow("dynamic", rows.HALTS)
    stop_arrival = _TableRow("dynamic", rows.STOP_ARRIVAL)
    stop_departure = _TableRow("dynamic", rows.STOP_DEPARTURE)

    def __init__(
        self,
        grid: NDArray[np.uint16],
        distance_map: NDArray[np.float64],
        level_free: NDArray[np.bool_],
        constants: NDArray[np.int32],
        max_episode_steps: int,
        stops: Stops,
        reward_weights: NDArray[np.float64],
    ) -> None:
        self.grid = grid
        self.level_free = level_free
        self.has_target = np.zeros(grid.shape, dtype=np.bool_)
        self.has_target[constants[rows.TARGET_ROW], constants[rows.TARGET_COLUMN]] = True
        self.constants = constants
        self.max_episode_steps = max_episode_steps
        self.n_trains = constants.shape[1]
        self.dynamic = np.full((rows.N_DYNAMIC, self.n_trains), -1, dtype=np.int32)
        self.dynamic[rows.NEXT_STOP :] = 0
        self.dynamic[rows.NEXT_MAP] = np.arange(self.n_trains)
        self.maps = np.concatenate([distance_map, stops.distances]) if len(stops.distances) else distance_map
        self.distance_map = self.maps[: self.n_trains]
        self.stops = stops._replace(distances=self.maps[self.n_trains :])
        self.served = np.zeros(len(stops.places), dtype=np.bool_)
        self.goes_to_stops = True
        self.reward_weights = reward_weights
        self.stop_arrays: Arrays = tuple(self.stops)
        self.has_stops = len(stops.latest_arrival) > 0
        self.elapsed_steps = 0
        self.plan_ahead = b""
        self.occupant = np.zeros(2 * grid.size, dtype=np.int32)
        self.arrays: Arrays = tuple(
            StateArrays(grid, self.maps, level_free, self.has_target, constants, self.dynamic, self.occupant)
        )
        # update() packs the trains one after the other; the table wants the fields one after the other.
        self._packed = np.empty((self.n_trains, _N_READ), dtype=np.int32)
        self._packed_format = f"={self._packed.size}i"
        self._denominators: list[int] = self.denominator.tolist()

    @classmethod
    def from_env(cls, env: "RailEnv") -> "RailState":
        """The state of an environment that was reset or loaded from a file, at any step.

        What was served before is what the rewards of the environment have noted.

        Raises:
            ValueError: a train has targets in more than one cell, or the episode has no last step.
        """
        # flatland, which takes long, is loaded
        from utils.simulator.halts import are_stops_worth_it, served_places, stops_of
        from utils.simulator.reward_weights import weights_to_plan_by
        from utils.simulator.train_constants import constants_of, denominator_of

        if not env._max_episode_steps:
            raise ValueError("the environment has no maximum number of steps (_max_episode_steps): reset it first")
        grid = np.ascontiguousarray(env.rail.grid, dtype=np.uint16)
        level_free = np.zeros(grid.shape, dtype=np.bool_)
        for position in env.resource_map.level_free_positions:
            level_free[tuple(position)] = True
        constants = np.empty((rows.N_CONSTANTS, len(env.agents)), dtype=np.int32)
        for handle, agent in enumerate(env.agents):
            constants[:, handle] = constants_of(agent, denominator_of(agent, env))
        distance_map = np.ascontiguousarray(env.distance_map.get(), dtype=np.float64)
        stops = stops_of(env, grid, distance_map, constants)
        weights = weights_to_plan_by(env.rewards)
        state = cls(grid, distance_map, level_free, constants, int(env._max_episode_steps), stops, weights)
        state.served[:] = served_places(env, stops)
        state.goes_to_stops = are_stops_worth_it(env)
        state._read(env)
        if state.has_stops:
            state.follow_stops(was_step=False)
        return state

    def update(self, env: "RailEnv") -> None:
        """Read the trains of the environment that this state was made from; call it after each ``env.step``."""
        self._read(env)
        if self.has_stops:
            self.follow_stops()

    def _read(self, env: "RailEnv") -> None:
        """Private attributes are read where flatland's properties would double the cost: about 1 us a train."""
        values: list[int] = []
        for agent, denominator in zip(env.agents, self._denominators, strict=True):
            machine = agent.state_machine
            state = machine._state
            previous = machine.previous_state
            (row, column), direction = agent.current_configuration or _NOWHERE
            counter = agent.speed_counter
            speed = counter._speed
            distance = counter._distance
            handler = agent.malfunction_handler
            arrival_time = agent.arrival_time
            # None before the arrival; flatland-rl 4.2.6 does not keep it at all
            arrived = getattr(agent, "target_configuration", None) or _NOWHERE
            (arrived_row, arrived_column), arrived_direction = arrived
            values += (
                state,
                -1 if previous is None else previous,
                row,
                column,
                direction,
                # flatland resets the distance to the int 0; later it is a Fraction.
                0 if type(distance) is int else distance._numerator * denominator // distance._denominator,
                speed._numerator * denominator // speed._denominator,
                handler._malfunction_down_counter,
                handler.num_malfunctions,
                -1 if arrival_time is None else arrival_time,
                arrived_row,
                arrived_column,
                arrived_direction,
            )
        struct.pack_into(self._packed_format, self._packed.data, 0, *values)
        self.dynamic[:_N_READ] = self._packed.T
        self.elapsed_steps = env._elapsed_steps

    def follow_stops(self, *, was_step: bool = True) -> None:
        """After a step: note which stops are served, and where the trains go next; without one only the latter."""
        from utils.simulator.next_stops import follow_stops  # which needs what is defined here

        arrays, stops, served = self.arrays, self.stop_arrays, self.served
        follow_stops(self.goes_to_stops, self.elapsed_steps, self.max_episode_steps, arrays, stops, served, was_step)


@compiled
def _fill_travel_times(maps: np.ndarray, constants: np.ndarray, dynamic: np.ndarray, out: np.ndarray) -> None:
    for handle in range(out.shape[0]):
        out[handle] = travel_time_of(handle, maps, constants, dynamic)


def remaining_travel_time(state: RailState) -> NDArray[np.float64]:
    """Steps, float64 [trains], that each train still needs at full speed along its shortest path by its stops.

    Counted from where the train is, within its cell too, and from its initial configuration if it is off the map
    (without the step in which it enters the map). 0 after arrival, inf if the target cannot be reached. A stop counts
    one step. The rest of a malfunction, other trains in the way and earliest departures are not counted.
    """
    out = np.empty(state.n_trains, dtype=np.float64)
    _fill_travel_times(state.maps, state.constants, state.dynamic, out)
    return out
