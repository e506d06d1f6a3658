"""Can a train's observation tell whether it had better wait? Measures what holding single trains back brings to all.

    python benchmarks/learning/holding.py

Levels are played by the rule ``least_detour`` up to a random step. There each of a few trains that would move on is
held back for ten steps instead, and the episode is played to its end in two sampled futures of malfunctions and in the
expected one, in which nothing breaks any more. What that brings all trains together, against the same futures without
the hold, is compared with what a network that was trained on other levels makes of the train's observation. Writes
holding.json beside itself. The levels have seeds from 700000 on, which no training uses.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.learning.programs import machine
from utils.levels.env_configs import ENV_CONFIGS, EnvConfig
from utils.levels.fast_reset import make_rail_env_fast
from utils.levels.rail_envs import make_rail_env
from utils.observation.feature_sets import get_feature_set
from utils.observation.observer import Observer
from utils.rules.rule_rollouts import (
    HELD_UNTIL,
    begin,
    choose_actions,
    no_variation,
    play_of,
    roll_out,
    worth,
)
from utils.simulator.compiled_simulator import CompiledSimulator
from utils.simulator.malfunction_draws import malfunction_chance, sample_malfunctions
from utils.simulator.rail_grid import MOVE_LEFT, MOVE_RIGHT

HERE = Path(__file__).resolve().parent
HOLD = 10  # steps
STATES_A_LEVEL = 8
TRAINS_A_STATE = 8
COMPLETION_WEIGHT = 0.3  # beside the normalized score, as in planning
FOLDS = 5
CHOSEN = 0.05  # share of the holds that each way of choosing takes


class Level:
    """One level, played by the rule from any of its states."""

    def __init__(self, config: EnvConfig, seed: int) -> None:
        self.simulator = CompiledSimulator.from_env(make_rail_env_fast(config, seed))
        self.state = self.simulator.state
        self.start = self.state.dynamic.copy()
        self._play = play_of(self.simulator)

    def go_to(self, step: int) -> bool:
        """Play up to a step, with the level's own malfunctions; whether the episode is not over then."""
        begin(self._play, self.start, self.simulator.plans)
        rule = no_variation(self.state.n_trains)
        over, steps, _ = roll_out(self._play, rule, self.simulator.malfunctions, 0, step)
        self.state.dynamic[:], self.state.elapsed_steps = self._play.state.dynamic, steps
        return not over

    def actions(self) -> NDArray[np.int64]:
        """What the rule does now, int64 [trains]."""
        begin(self._play, self.state.dynamic, self.simulator.plans)
        choose_actions(self._play, no_variation(self.state.n_trains), self.state.elapsed_steps)
        return self._play.actions.copy()

    def value(self, held: int | None, future: NDArray[np.int32]) -> float:
        """What comes of the present state in a future, with a train held back or none."""
        variation, state = no_variation(self.state.n_trains), self.state
        if held is not None:
            variation[HELD_UNTIL, held] = state.elapsed_steps + HOLD
        begin(self._play, state.dynamic, self.simulator.plans)
        rest = state.max_episode_steps
        _, _, total = roll_out(self._play, variation, future, state.elapsed_steps, rest)
        return worth(total, self._play, rest, COMPLETION_WEIGHT)


def futures(level: Level, chance: tuple[float, int, int], random: np.random.Generator) -> NDArray[np.int32]:
    """Malfunctions to come, int32 [3, max_episode_steps, trains]: two sampled futures, and the expected one."""
    malfunctions = np.zeros((3, level.state.max_episode_steps, level.state.n_trains), dtype=np.int32)
    sample_malfunctions(random, chance, malfunctions[:2])
    return malfunctions


def measure(config: EnvConfig, first_seed: int, n_levels: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Observations [holds, features], what each hold brings in each future [holds, 3], and its level [holds]."""
    chance, random = malfunction_chance(make_rail_env(config, first_seed)), np.random.default_rng(0)
    observer = Observer(get_feature_set("tree_routes"), safe_moves=True)
    observations, gains, levels = [], [], []
    for number in range(n_levels):
        level = Level(config, first_seed + number)
        for _ in range(STATES_A_LEVEL):
            if not level.go_to(int(random.integers(1, 3 * level.state.max_episode_steps // 4))):
                continue
            features, mask = observer.observe(level.state)
            actions, to_come = level.actions(), futures(level, chance, random)
            go = (actions >= MOVE_LEFT) & (actions <= MOVE_RIGHT) & (mask.sum(axis=1) > 1)
            as_it_is = np.array([level.value(None, future) for future in to_come])
            for handle in random.permutation(np.flatnonzero(go))[:TRAINS_A_STATE]:
                held = np.array([level.value(int(handle), future) for future in to_come])
                observations.append(features[handle])
                gains.append(held - as_it_is)
                levels.append(number)
    return np.array(observations), np.array(gains), np.array(levels)


def predicted(
    observations: NDArray[np.float32], gains: NDArray[np.float64], levels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """What networks make of observations from levels on which they were not trained, float64 [holds]."""
    torch.manual_seed(0)
    inputs = torch.as_tensor(observations)
    scale = float(gains.std())
    targets = torch.as_tensor((gains / scale).clip(-2, 2), dtype=torch.float32)
    result = np.zeros(len(gains))
    for fold in range(FOLDS):
        other = torch.as_tensor(levels % FOLDS != fold)
        network = nn.Sequential(
            nn.Linear(inputs.shape[1], 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 1)
        )
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2)
        own_inputs, own_targets = inputs[other], targets[other]
        for _ in range(10):
            for batch in torch.randperm(len(own_inputs)).split(128):
                loss = nn.functional.mse_loss(network(own_inputs[batch]).squeeze(1), own_targets[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        with torch.no_grad():
            result[~other.numpy()] = network(inputs[~other]).squeeze(1).numpy() * scale
    return result


def record(observations: NDArray[Any], gains: NDArray[Any], levels: NDArray[Any]) -> dict[str, Any]:
    """How well each way of choosing holds does in a future that it did not know."""
    sampled = gains[:, :2].mean(axis=1)
    ways = {
        "another sampled future": (gains[:, 0], gains[:, 1]),
        "the expected future": (gains[:, 2], sampled),
        "a network, from the observation": (predicted(observations, sampled, levels), sampled),
    }
    result: dict[str, Any] = {
        "holds": len(gains),
        "mean gain": sampled.mean(),
        "share with a gain": (sampled > 0).mean(),
    }
    for name, (guess, truth) in ways.items():
        chosen = truth[np.argsort(-guess, kind="stable")[: int(CHOSEN * len(guess))]]
        result[name] = {
            "correlation": float(np.corrcoef(guess, truth)[0, 1]),
            f"gain of the best {CHOSEN:.0%}": float(chosen.mean()),
            "standard error": float(chosen.std() / len(chosen) ** 0.5),
        }
    return result


def main() -> None:
    """Measures, prints and records."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-e", "--evaluation_env_config", action="append", choices=sorted(ENV_CONFIGS))
    parser.add_argument("--levels", type=int, default=400)
    parser.add_argument("--first_seed", type=int, default=700_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {"levels": options.levels, "first_seed": options.first_seed, "machine": machine()}
    for name in options.evaluation_env_config or ["Test_1", "Test_2"]:
        results[name] = record(*measure(ENV_CONFIGS[name], options.first_seed, options.levels))
        print(json.dumps(results, indent=1), flush=True)
        (HERE / "holding.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
