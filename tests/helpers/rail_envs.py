"""Small rail environments for tests: generated ones of all kinds, and ones drawn by hand."""

import warnings
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from flatland.core.env_observation_builder import DummyObservationBuilder, ObservationBuilder
from flatland.envs.line_generators import sparse_line_generator
from flatland.envs.malfunction_generators import MalfunctionParameters, ParamMalfunctionGen
from flatland.envs.rail_env import RailEnv
from flatland.envs.rail_env_action import RailEnvActions
from flatland.envs.rail_generators import rail_from_grid_transition_map, sparse_rail_generator
from flatland.envs.rail_grid_transition_map import RailGridTransitionMap
from flatland.envs.rail_trainrun_data_structures import Waypoint
from flatland.envs.timetable_utils import Line, Timetable

from utils.levels.flatland_workarounds import clear_flatland_caches_now_and_then

FOUR_SPEEDS = {1.0: 0.25, 0.5: 0.25, 0.33: 0.25, 0.25: 0.25}
ONE_SPEED = {1.0: 1.0}

NORTH, EAST, SOUTH, WEST = range(4)
Configuration = tuple[tuple[int, int], int]

# The sides of a cell that its tracks join; a single side is a dead end. Switches get letters of their own.
TRACKS: dict[str, tuple[str, ...]] = {
    " ": (),
    "-": ("EW",),
    "|": ("NS",),
    "/": ("ES",),  # the north-west corner of a ring
    "\\": ("SW",),  # its north-east corner
    "L": ("NE",),  # its south-west corner
    "J": ("NW",),  # its south-east corner
    "+": ("NS", "EW"),
    ">": ("W",),
    "<": ("E",),
}


def sparse_env(
    seed: int,
    n_agents: int = 10,
    size: int = 30,
    n_cities: int = 2,
    speeds: Mapping[float, float] = FOUR_SPEEDS,
    malfunction_rate: float = 1 / 50,
    p_level_free: float = 0.0,
    line_length: int = 2,
    obs_builder: ObservationBuilder | None = None,
    height: int | None = None,
    **options: object,
) -> RailEnv:
    """A generated environment, reset; the classic kit's Test_1 with four speeds unless told otherwise.

    ``size`` is the width, and the height too unless that is given.
    """
    clear_flatland_caches_now_and_then()
    env = RailEnv(
        width=size,
        height=height or size,
        rail_generator=sparse_rail_generator(
            max_num_cities=n_cities, max_rails_between_cities=2, max_rail_pairs_in_city=2, p_level_free=p_level_free
        ),
        line_generator=sparse_line_generator(dict(speeds), line_length=line_length),
        number_of_agents=n_agents,
        malfunction_generator=ParamMalfunctionGen(MalfunctionParameters(malfunction_rate, 5, 15)),
        obs_builder_object=obs_builder or DummyObservationBuilder(),
        random_seed=seed,
        **options,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env.reset(random_seed=seed)
    return env


def cell_bits(tracks: Sequence[str]) -> int:
    """flatland's 16 bits of a cell in which tracks join the given sides."""
    bits = 0
    for track in tracks:
        for entry, leave in ((track[0], track[-1]), (track[-1], track[0])):
            heading = ("NESW".index(entry) + 2) % 4
            bits |= 1 << (15 - 4 * heading - "NESW".index(leave))
    return bits


def drawn_env(
    drawing: Sequence[str],
    trains: Sequence[tuple[Configuration, tuple[int, int]]],
    speeds: Sequence[float] | None = None,
    switches: Mapping[str, tuple[str, ...]] | None = None,
    level_free: set[tuple[int, int]] | None = None,
    max_episode_steps: int = 100,
) -> RailEnv:
    """An environment on a drawn map, reset; ``trains`` are (initial configuration, target cell)."""
    clear_flatland_caches_now_and_then()
    tracks = {**TRACKS, **(switches or {})}
    rail = RailGridTransitionMap(width=len(drawing[0]), height=len(drawing))
    rail.grid = np.array([[cell_bits(tracks[letter]) for letter in line] for line in drawing], dtype=np.uint16)

    def line_generator(*_: object) -> Line:
        return Line(
            agent_waypoints={
                handle: [[Waypoint(*start)], [Waypoint(target, direction) for direction in range(4)]]
                for handle, (start, target) in enumerate(trains)
            },
            agent_speeds=list(speeds or [1.0] * len(trains)),
        )

    def timetable_generator(*_: object) -> Timetable:
        n = len(trains)
        return Timetable([[0, None]] * n, [[None, max_episode_steps]] * n, max_episode_steps)

    env = RailEnv(
        width=rail.width,
        height=rail.height,
        rail_generator=rail_from_grid_transition_map(rail, {"level_free_positions": level_free or set()}),
        line_generator=line_generator,
        timetable_generator=timetable_generator,
        number_of_agents=len(trains),
        obs_builder_object=DummyObservationBuilder(),
        random_seed=1,
    )
    env.reset(random_seed=1)
    return env


def shortest_path_action(env: RailEnv, handle: int, order: tuple[int, ...] = (1, 2, 3)) -> int:
    """The move along the train's shortest path, the first of ``order`` that is; 0 for a train that cannot move."""
    agent = env.agents[handle]
    configuration = agent.current_configuration or agent.initial_configuration
    distance_map = env.distance_map.get()[handle]
    best, best_distance = 0, np.inf
    for action in order:
        transition = env.rail.apply_action_independent(action_of(action), configuration)
        if transition is not None:
            (row, column), direction = transition[0]
            if distance_map[row, column, direction] < best_distance:
                best, best_distance = action, distance_map[row, column, direction]
    return best


def possible_moves(env: RailEnv, configuration: Configuration) -> dict[int, Configuration]:
    """The moves that flatland neither refuses nor turns into others, with the configurations they lead to."""
    found = {action: env.rail.apply_action_independent(action_of(action), configuration) for action in (1, 2, 3)}
    moves = {action: following[0] for action, following in found.items() if following is not None}
    single, forward = sum(env.rail.get_transitions(configuration)) == 1, moves.get(2)
    # one that leads where forward leads was turned into it
    own = {action: following for action, following in moves.items() if not single and following != forward}
    return own if forward is None else own | {2: forward}


def action_of(value: int) -> RailEnvActions:
    """flatland's enum member of an action's number."""
    return RailEnvActions.from_value(value)


def play(env: RailEnv, seed: int, random_share: float, max_steps: int = 10_000) -> Iterator[None]:
    """Steps an episode to its end; yields before the first step and after each.

    A share of the actions is random, the others follow the shortest path.
    """
    rng = np.random.default_rng(seed)
    yield
    for _ in range(max_steps):
        actions = {
            handle: int(rng.integers(5)) if rng.random() < random_share else shortest_path_action(env, handle)
            for handle in range(len(env.agents))
        }
        _, _, done, _ = env.step(actions)
        yield
        if done["__all__"]:
            return
