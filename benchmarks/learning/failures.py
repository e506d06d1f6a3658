"""What became of the trains that did not arrive: plays the shipped checkpoint and sorts them into kinds.

    python benchmarks/learning/failures.py --levels 100

Writes failures.json and failures.md beside itself and pictures of typical levels into benchmarks/pictures. The levels
have seeds from 700000 on, which no training uses.

In flatland-rl malfunctions do not depend on what trains do. So whether a train would have arrived alone on the map,
with the malfunctions that it had, is found by playing the level again with that train alone, on its shortest path.

A train that stands, or does not depart, waits for the first other train on its shortest path; if that one stands as
well, for the one that it waits for. It may have meant to go round them another way.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from benchmarks.frame import keep, machine, markdown_table, mean_and_error, parser_of, with_error
from reinforcement_learning.playing.play_levels import play_levels
from reinforcement_learning.submission import load_warmed_up
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.packed_level import pack_level, unpack_level
from utils.levels.rail_envs import make_rail_env, make_rail_env_fast
from utils.pictures.rendering import RecordedSimulator
from utils.rules.shortest_path import shortest_path_actions
from utils.simulator.compiled_simulator import CompiledSimulator
from utils.simulator.deadlock_check import deadlocked
from utils.simulator.rail_grid import DO_NOTHING, nearest_move, possible_move
from utils.simulator.rail_state import RailState
from utils.simulator.state_arrays import (
    DONE,
    MALFUNCTION,
    MALFUNCTION_OFF_MAP,
    READY_TO_DEPART,
    STOPPED,
    configuration_of,
)
from utils.system.files import PROJECT_ROOT

KINDS = (
    "deadlocked",
    "never departed",
    "broken at the end",
    "waiting for a train that is or was broken",
    "waiting for another train",
    "moving, out of time",
)
ARRIVED = "arrived"
LOSSES = ("its own malfunctions", "waiting for broken trains", "waiting for other trains")
STEPS_LOST = "steps_lost_by_trains_that_would_arrive_alone"
# What each picture shows, and on which configuration it is typical.
TYPICAL = {"Test_0": KINDS[2], "Test_1": KINDS[3], "Test_2": KINDS[4]}


class WatchedSimulator(CompiledSimulator):
    """A level in play, on the twin of flatland-rl's simulator, that notes, step by step, what each train waits for.

    Attributes:
        lost: int [LOSSES, trains], steps from its timetable's departure on.
        waited_for_broken: bool [trains], whether its present wait is, or was at some step, for a broken train.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.lost = np.zeros((len(LOSSES), self.state.n_trains), dtype=np.int64)
        self.waited_for_broken = np.zeros(self.state.n_trains, dtype=np.bool_)

    def step(self, actions: ArrayLike) -> tuple[NDArray[np.float64], bool]:
        """Moves all trains by one step and notes what each waits for."""
        rewards, over = super().step(actions)
        state = self.state
        broken = (state.state == MALFUNCTION) | (state.state == MALFUNCTION_OFF_MAP)
        standing = (state.state == STOPPED) | (state.state == READY_TO_DEPART)
        ahead = first_trains_ahead(state)
        self.lost[0] += broken & (state.elapsed_steps > state.earliest_departure)
        self.waited_for_broken &= broken | standing
        for handle in np.flatnonzero(standing).tolist():
            for_broken = is_held_up_by_broken(handle, ahead, broken, standing)
            self.waited_for_broken[handle] |= for_broken
            self.lost[1 if for_broken else 2, handle] += 1
        return rewards, over


def first_trains_ahead(state: RailState) -> list[int | None]:
    """For each train the first other one on its shortest path to its target."""
    occupants = {
        (int(state.row[h]), int(state.column[h])): h
        for h in range(state.n_trains)
        if state.row[h] >= 0 and state.state[h] != DONE
    }
    return [_first_train_ahead(handle, state, occupants) for handle in range(state.n_trains)]


def _first_train_ahead(handle: int, state: RailState, occupants: dict[tuple[int, int], int]) -> int | None:
    if state.state[handle] == DONE:
        return None
    row, column, direction = configuration_of(handle, state.constants, state.dynamic)
    if state.row[handle] < 0 and (row, column) in occupants:
        return occupants[row, column]
    left = state.distance_map[handle, row, column, direction]
    while 0 < left < np.inf:
        move = nearest_move(state.grid, state.distance_map, handle, row, column, direction)
        row, column, direction = possible_move(state.grid, row, column, direction, move)
        left = state.distance_map[handle, row, column, direction]
        if (row, column) in occupants:
            return occupants[row, column]
    return None


def is_held_up_by_broken(
    handle: int, ahead: Sequence[int | None], broken: NDArray[np.bool_], standing: NDArray[np.bool_]
) -> bool:
    """Whether the trains that stand one behind the other from here on end in a broken one."""
    seen = {handle}
    following = ahead[handle]
    while following is not None and standing[following] and following not in seen:
        seen.add(following)
        following = ahead[following]
    return following is not None and bool(broken[following])


def kinds_of(simulator: WatchedSimulator) -> NDArray[np.str_]:
    """What became of each train by the end of the episode: :data:`ARRIVED`, or one of :data:`KINDS`."""
    now = simulator.state.state
    cases = {
        ARRIVED: now == DONE,
        KINDS[0]: deadlocked(simulator.state),
        KINDS[1]: now <= MALFUNCTION_OFF_MAP,
        KINDS[2]: now == MALFUNCTION,
        KINDS[3]: (now == STOPPED) & simulator.waited_for_broken,
        KINDS[4]: now == STOPPED,
    }
    return np.select(list(cases.values()), list(cases), KINDS[5])  # the first that holds


def arrives_alone(packed: bytes, handle: int) -> bool:
    """Whether a train arrives that has the map for itself, with the malfunctions that the level brings it."""
    simulator = unpack_level(packed)
    actions = np.full(simulator.state.n_trains, DO_NOTHING, dtype=np.int64)
    while not simulator.done and simulator.state.state[handle] != DONE:
        actions[handle] = shortest_path_actions(simulator.state)[handle]
        simulator.step(actions)
    return bool(simulator.state.state[handle] == DONE)


@dataclass(frozen=True)
class Level:
    """What became of the trains of one level."""

    seed: int
    kinds: NDArray[np.str_]
    alone: NDArray[np.bool_]
    lost: NDArray[np.int64]

    def share(self, kind: str, *, of_those_alone: bool = False) -> float:
        """Of all trains; with ``of_those_alone`` only those that would have arrived alone."""
        return float(np.mean((self.kinds == kind) & (self.alone | (not of_those_alone))))


def play(config: str, seed: int, checkpoint: str) -> Level:
    """Plays one level."""
    simulator = WatchedSimulator.from_env(make_rail_env_fast(ENV_CONFIGS[config], seed))
    assert isinstance(simulator, WatchedSimulator)
    packed = pack_level(simulator)
    policy, observer = load_warmed_up(checkpoint)
    play_levels([simulator], observer, policy)
    alone = np.array([arrives_alone(packed, handle) for handle in range(simulator.state.n_trains)])
    return Level(seed, kinds_of(simulator), alone, simulator.lost)


def summary(levels: Sequence[Level]) -> dict[str, Any]:
    """Shares of all trains with standard errors over levels, and what cost the time of those that had enough."""

    def shares(kind: str) -> dict[str, float | None]:
        mean, error = mean_and_error([level.share(kind) for level in levels])
        alone, alone_error = mean_and_error([level.share(kind, of_those_alone=True) for level in levels])
        return {"share": mean, "se": error, "would_arrive_alone": alone, "would_arrive_alone_se": alone_error}

    missed = np.hstack([level.lost[:, (level.kinds != ARRIVED) & level.alone] for level in levels])
    ceiling, ceiling_error = mean_and_error([float(level.alone.mean()) for level in levels])
    return {
        "levels": len(levels),
        "first_seed": levels[0].seed,
        "all": {"share": 1.0, "se": 0.0, "would_arrive_alone": ceiling, "would_arrive_alone_se": ceiling_error},
        ARRIVED: shares(ARRIVED),
        "kinds": {kind: shares(kind) for kind in KINDS},
        STEPS_LOST: dict(zip(LOSSES, missed.mean(axis=1).round(1).tolist(), strict=True)),
    }


def as_markdown(record: dict[str, Any]) -> str:
    """The tables for people."""
    configs, summaries = list(record["configs"]), list(record["configs"].values())
    n_levels, first_seed = summaries[0]["levels"], summaries[0]["first_seed"]

    def percent(share: float, error: float | None) -> str:
        return with_error(100 * share, error and 100 * error, ".1f")

    kinds = []
    for kind in (ARRIVED, *KINDS, "all"):
        cells = []
        for row in (of[kind] if kind in of else of["kinds"][kind] for of in summaries):
            cells += [percent(row["share"], row["se"]) if kind != "all" else "100"]
            cells += [percent(row["would_arrive_alone"], row["would_arrive_alone_se"])]
        kinds.append([kind, *cells])
    lost = [[loss, *(f"{of[STEPS_LOST][loss]:.1f}" for of in summaries)] for loss in LOSSES]
    return "\n\n".join(
        [
            f"`{record['checkpoint']}` on {n_levels} levels each, seeds from {first_seed} on: shares of all trains in "
            "percent, with standard errors over levels, and the share that would have arrived alone on the map, with "
            "the malfunctions that it had. Written by failures.py, which says how trains are sorted.",
            markdown_table(
                ["what became of trains", *(heading for c in configs for heading in (c, "of which alone"))], kinds
            ),
            "Steps that trains lost which did not arrive, but would have alone, on average:",
            markdown_table(["lost by", *configs], lost),
        ]
    )


def draw_typical(config: str, levels: Sequence[Level], checkpoint: str) -> dict[str, Any]:
    """The last step of the level in which most trains failed in the way that is typical of the configuration."""
    kind = TYPICAL[config]
    level = max(levels, key=lambda level: level.share(kind, of_those_alone=kind != KINDS[2]))
    env = make_rail_env(ENV_CONFIGS[config], level.seed)
    simulator = RecordedSimulator(env, f"{config}, seed {level.seed}: {kind}")
    policy, observer = load_warmed_up(checkpoint)
    play_levels([simulator], observer, policy)
    name = f"failures_{config}.png"
    simulator.recorder.save(PROJECT_ROOT / "benchmarks" / "pictures" / name)
    return {"file": name, "seed": level.seed, "shows": kind}


def main() -> None:
    """Plays, sorts, writes."""
    parser = parser_of(__doc__)
    parser.add_argument("--checkpoint", default="checkpoints/flatland_policy.pt", help="below the project's folder")
    parser.add_argument("--levels", type=int, default=100)
    parser.add_argument("--first_seed", type=int, default=700_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint = str(PROJECT_ROOT / options.checkpoint)
    record: dict[str, Any] = {"checkpoint": options.checkpoint, "machine": machine(), "configs": {}, "pictures": []}
    for config in TYPICAL:
        levels = [play(config, options.first_seed + i, checkpoint) for i in range(options.levels)]
        record["configs"][config] = summary(levels)
        record["pictures"].append(draw_typical(config, levels, checkpoint))
        print(f"{config}: {json.dumps(record['configs'][config], indent=1)}", flush=True)
    keep("learning/failures", record, as_markdown(record))


if __name__ == "__main__":
    main()
