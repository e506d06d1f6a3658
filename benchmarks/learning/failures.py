"""What became of the trains that did not arrive: plays the shipped checkpoint and sorts them into kinds.

    python benchmarks/learning/failures.py --levels 100

Writes failures.json and failures.md beside itself and pictures of typical levels into benchmarks/pictures. The levels
have seeds from 700000 on, which no training uses.

In flatland-rl malfunctions do not depend on what trains do. So whether a train would have arrived alone on the map,
with the malfunctions that it had, is found by playing the level again with that train alone, on its shortest path.

A train that stands, or does not depart, waits for the first other train on its shortest path; if that one stands as
well, for the one that it waits for. It may have meant to go round them another way.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.frame import keep, machine, markdown_table, mean_and_error
from reinforcement_learning.playing.play_levels import play_levels
from reinforcement_learning.submission import load_warmed_up
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.packed_level import pack_level, unpack_level
from utils.levels.rail_envs import make_rail_env, make_rail_env_fast
from utils.pictures.rendering import RecordedSimulator
from utils.rules.shortest_path import shortest_path_actions
from utils.simulator.compiled_simulator import CompiledSimulator
from utils.simulator.deadlock_check import deadlocked
from utils.simulator.rail_grid import DO_NOTHING, possible_move
from utils.simulator.rail_state import (
    DONE,
    MALFUNCTION,
    MALFUNCTION_OFF_MAP,
    READY_TO_DEPART,
    STOPPED,
    RailState,
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
LOSSES = ("its own malfunctions", "waiting for broken trains", "waiting for other trains")
# What each picture shows, and on which configuration it is typical.
TYPICAL = {"Test_0": KINDS[2], "Test_1": KINDS[3], "Test_2": KINDS[4]}


class WatchedSimulator:
    """A level in play that notes, step by step, what each train waits for.

    Attributes:
        lost: int [LOSSES, trains], steps from its timetable's departure on.
        waited_for_broken: bool [trains], whether its present wait is, or was at some step, for a broken train.
    """

    def __init__(self, simulator: CompiledSimulator) -> None:
        self._simulator = simulator
        self.lost = np.zeros((len(LOSSES), simulator.state.n_trains), dtype=np.int64)
        self.waited_for_broken = np.zeros(simulator.state.n_trains, dtype=np.bool_)

    @property
    def state(self) -> RailState:
        """The level and its trains."""
        return self._simulator.state

    @property
    def clips_losses(self) -> bool:
        """As the level itself says."""
        return self._simulator.clips_losses

    def losses(self, train_rewards: NDArray[np.float64]) -> None:
        """They are told apart by steps instead."""

    def step(self, actions: NDArray[np.int64]) -> tuple[NDArray[np.float64], bool]:
        """Moves all trains by one step and notes what each waits for."""
        rewards, over = self._simulator.step(actions)
        state = self.state
        broken = (state.state == MALFUNCTION) | (state.state == MALFUNCTION_OFF_MAP)
        standing = (state.state == STOPPED) | (state.state == READY_TO_DEPART)
        ahead = first_trains_ahead(state)
        for handle in range(state.n_trains):
            if broken[handle]:
                self.lost[0, handle] += state.elapsed_steps > state.earliest_departure[handle]
            elif standing[handle]:
                for_broken = is_held_up_by_broken(handle, ahead, broken, standing)
                self.waited_for_broken[handle] |= for_broken
                self.lost[1 if for_broken else 2, handle] += 1
            else:
                self.waited_for_broken[handle] = False
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
        ways = [possible_move(state.grid, row, column, direction, action) for action in (2, 1, 3)]
        row, column, direction = min(
            (way for way in ways if way[0] >= 0), key=lambda way: state.distance_map[handle, way[0], way[1], way[2]]
        )
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
    while following is not None and following not in seen:
        if broken[following]:
            return True
        if not standing[following]:
            return False
        seen.add(following)
        following = ahead[following]
    return False


def kinds_of(simulator: WatchedSimulator) -> list[str | None]:
    """What became of each train by the end of the episode; None where it has arrived."""
    state = simulator.state
    stuck = deadlocked(state)
    kinds: list[str | None] = []
    for handle in range(state.n_trains):
        if state.state[handle] == DONE:
            kinds.append(None)
        elif stuck[handle]:
            kinds.append(KINDS[0])
        elif state.state[handle] <= MALFUNCTION_OFF_MAP:
            kinds.append(KINDS[1])
        elif state.state[handle] == MALFUNCTION:
            kinds.append(KINDS[2])
        elif state.state[handle] == STOPPED:
            kinds.append(KINDS[3] if simulator.waited_for_broken[handle] else KINDS[4])
        else:
            kinds.append(KINDS[5])
    return kinds


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
    kinds: list[str | None]
    alone: list[bool]
    lost: NDArray[np.int64]

    def share(self, kind: str | None, *, of_those_alone: bool = False) -> float:
        """Of all trains; with ``of_those_alone`` only those that would have arrived alone."""
        return statistics.fmean(
            own == kind and (alone or not of_those_alone) for own, alone in zip(self.kinds, self.alone, strict=True)
        )


def play(config: str, seed: int, checkpoint: str) -> Level:
    """Plays one level on the compiled simulator, the twin of flatland-rl's."""
    simulator = CompiledSimulator.from_env(make_rail_env_fast(ENV_CONFIGS[config], seed))
    packed = pack_level(simulator)
    watched = WatchedSimulator(simulator)
    policy, observer = load_warmed_up(checkpoint)
    play_levels([watched], observer, policy)
    alone = [arrives_alone(packed, handle) for handle in range(watched.state.n_trains)]
    return Level(seed, kinds_of(watched), alone, watched.lost)


def summary(levels: Sequence[Level]) -> dict[str, Any]:
    """Shares of all trains with standard errors over levels, and what cost the time of those that had enough."""

    def shares(kind: str | None) -> dict[str, float]:
        mean, error = mean_and_error([level.share(kind) for level in levels])
        alone, alone_error = mean_and_error([level.share(kind, of_those_alone=True) for level in levels])
        assert error is not None
        assert alone_error is not None
        return {"share": mean, "se": error, "would_arrive_alone": alone, "would_arrive_alone_se": alone_error}

    missed = [
        level.lost[:, handle]
        for level in levels
        for handle, kind in enumerate(level.kinds)
        if kind is not None and level.alone[handle]
    ]
    ceiling, ceiling_error = mean_and_error([statistics.fmean(level.alone) for level in levels])
    return {
        "levels": len(levels),
        "first_seed": levels[0].seed,
        "all": {"share": 1.0, "se": 0.0, "would_arrive_alone": ceiling, "would_arrive_alone_se": ceiling_error},
        "arrived": shares(None),
        "kinds": {kind: shares(kind) for kind in KINDS},
        "steps_lost_by_trains_that_would_arrive_alone": dict(
            zip(LOSSES, np.mean(missed, axis=0).round(1).tolist(), strict=True)
        ),
    }


def as_markdown(record: dict[str, Any]) -> str:
    """The tables for people."""
    configs = list(record["configs"])
    n_levels, first_seed = (record["configs"][configs[0]][name] for name in ("levels", "first_seed"))
    kinds = []
    for kind in ("arrived", *KINDS, "all"):
        cells = []
        for config in configs:
            rows = record["configs"][config]
            row = rows["kinds"][kind] if kind in KINDS else rows[kind]
            cells += [f"{100 * row['share']:.1f} ± {100 * row['se']:.1f}" if kind != "all" else "100"]
            cells += [f"{100 * row['would_arrive_alone']:.1f} ± {100 * row['would_arrive_alone_se']:.1f}"]
        kinds.append([kind, *cells])
    lost = [record["configs"][config]["steps_lost_by_trains_that_would_arrive_alone"] for config in configs]
    return "\n\n".join(
        [
            f"`{record['checkpoint']}` on {n_levels} levels each, seeds from {first_seed} on: shares of all trains in "
            "percent, with standard errors over levels, and the share that would have arrived alone on the map, with "
            "the malfunctions that it had. Written by failures.py, which says how trains are sorted.",
            markdown_table(
                ["what became of trains", *(heading for c in configs for heading in (c, "of which alone"))], kinds
            ),
            "Steps that trains lost which did not arrive, but would have alone, on average:",
            markdown_table(["lost by", *configs], [[loss, *(f"{of[loss]:.1f}" for of in lost)] for loss in LOSSES]),
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
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
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
