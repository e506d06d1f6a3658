"""How fast the kit is, as ratios against the classic way of working measured in the same process, turn by turn.

    OMP_NUM_THREADS=1 python benchmarks/throughput.py

Each figure is the median of several rounds; in each round both ways take their turn, so that a machine whose speed
drifts does not favour one. Writes throughput.md and throughput.json beside itself.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from benchmarks.classic_kit import ClassicPolicy, normalize, train_episode, tree_builder  # noqa: E402
from benchmarks.machine import processor  # noqa: E402
from reinforcement_learning.dddqn_policy import DDDQNPolicy  # noqa: E402
from reinforcement_learning.replay_buffer import ReplayBuffer  # noqa: E402
from reinforcement_learning.reward_shaping import RewardShaping  # noqa: E402
from reinforcement_learning.rollout import Learning, Rollout  # noqa: E402
from utils.env_configs import make_rail_env, resolve_env_config  # noqa: E402
from utils.flatland_caches import clear_flatland_caches  # noqa: E402
from utils.observation_utils import Observer, get_feature_set  # noqa: E402
from utils.rail_simulator import CompiledSimulator  # noqa: E402
from utils.rail_state import RailState  # noqa: E402

CONFIG = resolve_env_config("Test_1")
FEATURES = get_feature_set("tree")
N_TRAINS, N_ENVS = 10, 8


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        _row("observation of ten trains, normalised", *_observation(), options.rounds),
        _row("simulator step, ten trains, no observation", *_step(), options.rounds),
        _row("collecting without learning, per step of one environment", *_playing(learn=False), options.rounds),
        _row(
            "training at the classic hyper-parameters, per step of one environment",
            *_playing(learn=True),
            options.rounds,
        ),
    ]
    learning = _learning_share()
    record = {
        "machine": {"processor": processor(), "cores": os.cpu_count(), "python": platform.python_version()},
        "rows": rows,
        "learning_step_us": learning,
    }
    (HERE / "throughput.json").write_text(json.dumps(record, indent=1) + "\n")
    (HERE / "throughput.md").write_text(_markdown(record))
    print(_markdown(record))


def _row(name: str, classic: Callable[[], float], ours: Callable[[], float], rounds: int) -> dict[str, Any]:
    """Medians in microseconds; the first round warms up and does not count."""
    pairs = [(classic(), ours()) for _ in range(rounds + 1)][1:]
    ratios = [slow / fast for slow, fast in pairs]
    return {
        "what": name,
        "classic_us": round(statistics.median(slow for slow, _ in pairs), 1),
        "ours_us": round(statistics.median(fast for _, fast in pairs), 2),
        "ratio": round(statistics.median(ratios), 1),
        "ratio_min": round(min(ratios), 1),
        "ratio_max": round(max(ratios), 1),
    }


def _timed(work: Callable[[], object], times: int) -> float:
    """Microseconds of CPU time per call; other programs on the machine do not count."""
    started = time.process_time()
    for _ in range(times):
        work()
    return 1e6 * (time.process_time() - started) / times


def _observation() -> tuple[Callable[[], float], Callable[[], float]]:
    env = make_rail_env(CONFIG, 1)
    for _ in range(15):
        env.step(dict.fromkeys(range(N_TRAINS), 2))
    builder, state, observer = tree_builder(env), RailState.from_env(env), Observer(FEATURES)
    handles = list(range(N_TRAINS))

    def classic() -> None:
        for tree in builder.get_many(handles).values():
            normalize(tree)

    def ours() -> None:
        state.update(env)
        observer.observe(state)

    return lambda: _timed(classic, 40), lambda: _timed(ours, 2000)


def _forward_actions(env: Any) -> dict[int, int]:
    return dict.fromkeys(range(env.get_num_agents()), 2)


def _step() -> tuple[Callable[[], float], Callable[[], float]]:
    def classic() -> float:
        env = make_rail_env(CONFIG, 2)
        actions = _forward_actions(env)
        env.step(actions)  # draws a million random numbers once
        n = env._max_episode_steps - 2
        return _timed(lambda: env.step(actions), n)

    def ours() -> float:
        actions, seconds, n = np.full(N_TRAINS, 2), 0.0, 0
        for _ in range(20):
            simulator = CompiledSimulator.from_env(make_rail_env(CONFIG, 2))
            steps = simulator.state.max_episode_steps - 2
            simulator.step(actions)
            seconds += _timed(partial(simulator.step, actions), steps) * steps
            n += steps
        return seconds / n

    return classic, ours


def _playing(*, learn: bool) -> tuple[Callable[[], float], Callable[[], float]]:
    """Both explore with the same share; levels are made beforehand and not timed."""
    epsilon = 0.1
    classic_policy = ClassicPolicy()
    policy = DDDQNPolicy(FEATURES.n_features, 128)
    buffer = ReplayBuffer(100_000, FEATURES, np.random.default_rng(0))

    def classic() -> float:
        clear_flatland_caches()
        env = make_rail_env(CONFIG, 3)
        started = time.process_time()
        n_steps = train_episode(env, classic_policy, epsilon, learn=learn)
        return 1e6 * (time.process_time() - started) / n_steps

    return classic, lambda: _play(policy, buffer, epsilon, update_every=8 if learn else None)


def _play(policy: DDDQNPolicy, buffer: ReplayBuffer, epsilon: float, update_every: int | None) -> float:
    """Microseconds per step of one environment, with eight of them side by side, until all are through."""
    simulators = [CompiledSimulator.from_env(make_rail_env(CONFIG, 10 + i)) for i in range(N_ENVS)]
    n_steps, due = 0, 0
    learning = Learning(buffer, RewardShaping(0.99))
    started = time.process_time()
    rollout = Rollout(Observer(FEATURES), policy, N_TRAINS, n_envs=N_ENVS, learning=learning)
    for env, simulator in enumerate(simulators):
        rollout.start(env, simulator, epsilon)
    while rollout.playing:
        n_steps += len(rollout.playing)
        added = buffer.n_added
        rollout.step()
        due += buffer.n_added - added
        while update_every is not None and due >= update_every:
            due -= update_every
            policy.learn(buffer.sample(128))
    return 1e6 * (time.process_time() - started) / n_steps


def _learning_share() -> float:
    """Microseconds of one learning step, sampling included."""
    policy = DDDQNPolicy(FEATURES.n_features, 128)
    buffer = ReplayBuffer(100_000, FEATURES, np.random.default_rng(0))
    _play(policy, buffer, 0.5, None)
    return round(statistics.median(_timed(lambda: policy.learn(buffer.sample(128)), 50) for _ in range(7)), 1)


def _markdown(record: dict[str, Any]) -> str:
    machine = record["machine"]
    lines = [
        "# Throughput",
        "",
        f"`OMP_NUM_THREADS=1 python benchmarks/throughput.py` on {machine['processor']}, one core of "
        f"{machine['cores']}, Python {machine['python']}. CPU time, medians; ratios round by round (least to most).",
        "",
        "| what | classic way, us | this kit, us | ratio |",
        "| --- | --- | --- | --- |",
    ]
    for row in record["rows"]:
        ratio = f"{row['ratio']:.0f} ({row['ratio_min']:.0f} to {row['ratio_max']:.0f})"
        if row["ratio"] < 20:
            ratio = f"{row['ratio']:.1f} ({row['ratio_min']:.1f} to {row['ratio_max']:.1f})"
        lines.append(f"| {row['what']} | {row['classic_us']:.0f} | {row['ours_us']:.1f} | {ratio} |")
    lines += ["", f"One learning step of batch 128, sampling included: {record['learning_step_us']:.0f} us.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
