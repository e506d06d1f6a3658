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
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from benchmarks.classic_kit import ClassicPolicy, normalize, train_episode, tree_builder  # noqa: E402
from benchmarks.limits import (  # noqa: E402
    copy_rate,
    empty_call_us,
    matmul_rate,
    operations,
    parameter_bytes,
    update_bytes,
)
from benchmarks.machine import processor  # noqa: E402
from benchmarks.random_rows import random_rows  # noqa: E402
from reinforcement_learning.dddqn_policy import DDDQNPolicy  # noqa: E402
from reinforcement_learning.learning.learner import make_policy  # noqa: E402
from reinforcement_learning.learning.replay_buffer import ReplayBuffer, bytes_needed  # noqa: E402
from reinforcement_learning.playing.reward_shaping import RewardWeights  # noqa: E402
from reinforcement_learning.playing.rollout import Learning, Rollout  # noqa: E402
from reinforcement_learning.playing.train_settings import TrainSettings  # noqa: E402
from reinforcement_learning.settings.config import TrainingConfig  # noqa: E402
from reinforcement_learning.settings.features import training_observer  # noqa: E402
from utils.levels.env_configs import resolve_env_config  # noqa: E402
from utils.levels.flatland_workarounds import clear_flatland_caches  # noqa: E402
from utils.levels.rail_envs import make_rail_env  # noqa: E402
from utils.observation.feature_sets import FeatureSet, get_feature_set  # noqa: E402
from utils.observation.observer import Observer, fill_observations  # noqa: E402
from utils.simulator.compiled_simulator import CompiledSimulator  # noqa: E402
from utils.simulator.rail_state import RailState  # noqa: E402
from utils.simulator.rail_step import step_trains  # noqa: E402

CONFIG = resolve_env_config("Test_1")
FEATURES = get_feature_set("tree")
PLAIN = Observer(FEATURES, safe_moves=False)
COLLECTING = "collecting without learning, per step of one environment"
N_TRAINS, N_ENVS = 10, 8
UPDATE_EVERY, EPSILON = 8, 0.1
WEIGHTS, N_STEP = RewardWeights(0.99, 1.0, 1.0, 0.5), 1


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    limits = _limits()
    learning_steps = [
        _learning_step("classic hyper-parameters", _policy(shipped=False), 128, limits),
        _learning_step("shipped defaults", _policy(shipped=True), TrainingConfig().batch_size, limits),
    ]
    rows = [
        _row("observation of ten trains, normalised", *_observation(), options.rounds),
        _row("simulator step, ten trains, no observation", *_step(), options.rounds),
        _row(f"{COLLECTING}, what the classic way observes", *_playing(PLAIN), options.rounds),
        _row(
            "training at the classic hyper-parameters, per step of one environment",
            *_playing(PLAIN, learn=True),
            options.rounds,
        ),
        _row(f"{COLLECTING}, with safe moves and `tree_routes`", *_playing(_observer("tree_routes")), options.rounds),
        _row(
            f"{COLLECTING}, with the defaults: safe moves and `tree_plan`",
            *_playing(_observer(TrainingConfig().feature_set)),
            options.rounds,
        ),
    ]
    for row, limit in zip(rows, _row_limits(limits, learning_steps[0]["limit_us"]), strict=False):
        row["limit_us"] = round(limit, 2)
    record = {
        "machine": {"processor": processor(), "cores": os.cpu_count(), "python": platform.python_version()},
        "rows": rows,
        "limits": limits,
        "learning_steps": learning_steps,
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
    builder, state, observer = tree_builder(env), RailState.from_env(env), Observer(FEATURES, safe_moves=False)
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
        actions = np.full(N_TRAINS, 2)
        simulators = [CompiledSimulator.from_env(make_rail_env(CONFIG, 2)) for _ in range(20)]
        n = simulators[0].state.max_episode_steps - 2

        def play() -> None:
            for simulator in simulators:
                step = simulator.step
                for _ in range(n):
                    step(actions)

        for simulator in simulators:
            simulator.step(actions)
        return _timed(play, 1) / (n * len(simulators))

    return classic, ours


def _observer(feature_set: str) -> Observer:
    """What trains of the main command see with these features."""
    return training_observer(TrainingConfig(), get_feature_set(feature_set))


def _playing(observer: Observer, *, learn: bool = False) -> tuple[Callable[[], float], Callable[[], float]]:
    """Both explore with the same share; levels are made, and planned, beforehand and not timed."""
    classic_policy = ClassicPolicy()
    policy = _policy(shipped=False, features=observer.feature_set)
    buffer = ReplayBuffer(100_000, observer.feature_set, np.random.default_rng(0))

    def classic() -> float:
        clear_flatland_caches()
        env = make_rail_env(CONFIG, 3)
        started = time.process_time()
        n_steps = train_episode(env, classic_policy, EPSILON, learn=learn)
        return 1e6 * (time.process_time() - started) / n_steps

    return classic, lambda: _play(observer, policy, buffer, UPDATE_EVERY if learn else None)[0]


def _play(observer: Observer, policy: DDDQNPolicy, buffer: ReplayBuffer, update_every: int | None) -> tuple[float, int]:
    """Microseconds per step of one environment, with eight of them side by side until all are through; and steps."""
    simulators = [CompiledSimulator.from_env(make_rail_env(CONFIG, 10 + i)) for i in range(N_ENVS)]
    if (plan := observer.plan_ahead) is not None:
        for simulator in simulators:
            plan(simulator.state)
    n_steps, due = 0, 0
    learning = Learning(buffer)
    started = time.process_time()
    rollout = Rollout(observer, [policy], N_TRAINS, n_slots=N_ENVS, learning=learning)
    for env, simulator in enumerate(simulators):
        rollout.start(env, simulator, TrainSettings(EPSILON))
    while rollout.playing:
        n_steps += len(rollout.playing)
        added = buffer.n_added
        rollout.step()
        due += buffer.n_added - added
        while update_every is not None and due >= update_every:
            due -= update_every
            policy.learn(buffer.sample(128, WEIGHTS, N_STEP))
    return 1e6 * (time.process_time() - started) / n_steps, n_steps


def _policy(*, shipped: bool, features: FeatureSet = FEATURES) -> DDDQNPolicy:
    """The network and the rule that learns: plain double DQN, or as the main command has it."""
    config = TrainingConfig() if shipped else TrainingConfig(advantage_learning=0.0, averaging_steps=1)
    return make_policy(config, features, 0, "cpu")


def _learning_step(name: str, policy: DDDQNPolicy, batch_size: int, limits: dict[str, float]) -> dict[str, Any]:
    """One learning step, sampling included, and the least time that its arithmetic and its memory traffic take."""
    buffer = ReplayBuffer(100_000, FEATURES, np.random.default_rng(0))
    while len(buffer) < buffer.capacity:
        buffer.add(random_rows(10_000, FEATURES.n_features))
    times = [_timed(lambda: policy.learn(buffer.sample(batch_size, WEIGHTS, N_STEP)), 50) for _ in range(7)]
    batch = buffer.sample(batch_size, WEIGHTS, N_STEP)
    flops = operations(lambda: policy.learn(batch))
    sampled = 2 * batch_size * 2 * bytes_needed(1, FEATURES)  # two rows each, read and written
    updated = update_bytes(policy)
    limit = {
        "arithmetic_us": 1e6 * flops / limits["matmul_flops"],
        "sampling_us": 1e6 * sampled / limits["memory_bytes"],
        "update_us": 1e6 * updated / limits["cache_bytes"],
    }
    return {
        "what": f"{name}, batch {batch_size}",
        "us": round(statistics.median(times), 1),
        "megaflop": round(flops / 1e6, 1),
        "sampled_kb": round(sampled / 1e3),
        "updated_kb": round(updated / 1e3),
        **{part: round(us, 1) for part, us in limit.items()},
        "limit_us": round(sum(limit.values()), 1),
    }


def _limits() -> dict[str, float]:
    """What the machine can do, a second, and what calls from Python cost."""
    simulator = CompiledSimulator.from_env(make_rail_env(CONFIG, 0))
    Observer(FEATURES, safe_moves=False).observe(simulator.state)
    simulator.step(np.zeros(N_TRAINS, dtype=np.int64))
    return {
        "matmul_flops": matmul_rate(),
        "memory_bytes": copy_rate(2**28),
        "cache_bytes": copy_rate(parameter_bytes(_policy(shipped=True))),
        "observation_call_us": empty_call_us(fill_observations),
        "step_call_us": empty_call_us(step_trains),
    }


def _row_limits(limits: dict[str, float], learning_limit_us: float) -> list[float]:
    """The least microseconds for what each row does: calls, what must be written, and the network's arithmetic."""
    written = 1e6 * N_TRAINS * FEATURES.n_features * 4 / limits["memory_bytes"]
    observation, step = limits["observation_call_us"] + written, limits["step_call_us"]
    policy, buffer = _policy(shipped=False), ReplayBuffer(100_000, FEATURES, np.random.default_rng(0))
    n_steps = 0

    def play() -> None:
        nonlocal n_steps
        n_steps = _play(PLAIN, policy, buffer, None)[1]

    forward = 1e6 * operations(play) / n_steps / limits["matmul_flops"]
    collecting = observation + step + forward
    return [observation, step, collecting, collecting + learning_limit_us * buffer.n_added / n_steps / UPDATE_EVERY]


def _markdown(record: dict[str, Any]) -> str:
    machine = record["machine"]
    lines = [
        "# Throughput",
        "",
        f"`OMP_NUM_THREADS=1 python benchmarks/throughput.py` on {machine['processor']}, one core of "
        f"{machine['cores']}, Python {machine['python']}. CPU time, medians; ratios round by round (least to most).",
        "",
        "| what | classic way, us | this kit, us | ratio | limit, us | limit reached |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in record["rows"]:
        ratio = f"{row['ratio']:.0f} ({row['ratio_min']:.0f} to {row['ratio_max']:.0f})"
        if row["ratio"] < 20:
            ratio = f"{row['ratio']:.1f} ({row['ratio_min']:.1f} to {row['ratio_max']:.1f})"
        lines.append(
            f"| {row['what']} | {row['classic_us']:.0f} | {row['ours_us']:.1f} | {ratio} "
            + (
                f"| {row['limit_us']:.2g} | {_share(row['limit_us'], row['ours_us'])} |"
                if "limit_us" in row
                else "| | |"
            )
        )
    limits = record["limits"]
    lines += [
        "",
        "The limit is the least that this core needs for the same: calls of compiled functions that do nothing "
        f"({limits['observation_call_us']:.2g} us with the arguments of the observation, {limits['step_call_us']:.2g} "
        f"us with those of the step), products of matrices at {limits['matmul_flops'] / 1e9:.0f} GFLOP/s, copying "
        f"memory at {limits['memory_bytes'] / 1e9:.1f} GB/s, within the caches at "
        f"{limits['cache_bytes'] / 1e9:.0f} GB/s, all measured in the same run.",
        "",
        "| learning step, sampling included | us | limit, us | limit reached | arithmetic | sampling | update |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {step['what']} | {step['us']:.0f} | {step['limit_us']:.0f} | {_share(step['limit_us'], step['us'])} "
        f"| {step['megaflop']:.0f} MFLOP, {step['arithmetic_us']:.0f} us "
        f"| {step['sampled_kb']} kB, {step['sampling_us']:.0f} us "
        f"| {step['updated_kb']} kB, {step['update_us']:.0f} us |"
        for step in record["learning_steps"]
    ]
    return "\n".join([*lines, ""])


def _share(limit: float, measured: float) -> str:
    return f"{100 * limit / measured:.0f} %"


if __name__ == "__main__":
    main()
