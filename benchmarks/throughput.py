"""How fast the kit is, as ratios against the classic way of working measured in the same process, turn by turn.

    OMP_NUM_THREADS=1 python benchmarks/throughput.py

Each figure is the median of several rounds; in each round both ways take their turn, so that a machine whose speed
drifts does not favour one. Writes throughput.md and throughput.json beside itself.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

from benchmarks.classic_kit import ClassicPolicy, normalize, train_episode, tree_builder
from benchmarks.frame import keep, machine, markdown_table, parser_of, seconds_of
from benchmarks.limits import copy_rate, matmul_rate, operations, parameter_bytes, update_bytes
from benchmarks.random_rows import full_buffer
from reinforcement_learning.dddqn_policy import DDDQNPolicy
from reinforcement_learning.learning.learner import make_policy
from reinforcement_learning.learning.replay_buffer import ReplayBuffer, bytes_needed
from reinforcement_learning.playing.reward_shaping import RewardWeights
from reinforcement_learning.playing.rollout import Learning, Rollout
from reinforcement_learning.playing.train_settings import TrainSettings
from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.settings.features import training_observer
from utils.levels.env_configs import resolve_env_config
from utils.levels.flatland_workarounds import clear_flatland_caches
from utils.levels.rail_envs import make_rail_env, make_rail_env_fast
from utils.observation.feature_sets import FeatureSet, get_feature_set
from utils.observation.observer import Observer
from utils.simulator.compiled_simulator import CompiledSimulator
from utils.simulator.rail_state import RailState

CONFIG = resolve_env_config("Test_1")
FEATURES = get_feature_set("tree")
PLAIN = Observer(FEATURES, safe_moves=False)
COLLECTING = "collecting without learning, per step of one environment"
N_TRAINS, N_ENVS = 10, 8
UPDATE_EVERY, EPSILON = 8, 0.1
_MOVED = {"sampled": "sampling", "updated": "update"}
WEIGHTS, N_STEP = RewardWeights(0.99, 1.0, 1.0, 0.5), 1


def main() -> None:
    """Measures, prints, writes."""
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    limits = _limits()
    learning_steps = [
        _learning_step("classic hyper-parameters", _policy(shipped=False), 128, limits),
        _learning_step("shipped defaults", _policy(shipped=True), TrainingConfig().batch_size, limits),
    ]
    with_routes, with_plan = _observer("tree_routes"), _observer(TrainingConfig().feature_set)
    compared = {
        "observation of ten trains, normalised": _observation(),
        "simulator step, ten trains, no observation": _step(),
        "making a level of ten trains": _making(),
        f"{COLLECTING}, what the classic way observes": _playing(PLAIN),
        "training at the classic hyper-parameters, per step of one environment": _playing(PLAIN, learn=True),
        f"{COLLECTING}, with safe moves and `tree_routes`": _playing(with_routes),
        f"{COLLECTING}, with the defaults: safe moves and `tree_plan`": _playing(with_plan),
    }
    rows = [_row(name, classic, ours, options.rounds) for name, (classic, ours) in compared.items()]
    record = {"machine": machine(), "rows": rows, "limits": limits, "learning_steps": learning_steps}
    page = _markdown(record)
    keep("throughput", record, page)
    print(page)


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
    return 1e6 * seconds_of(work, times, time.process_time)


def _observation() -> tuple[Callable[[], float], Callable[[], float]]:
    env = make_rail_env(CONFIG, 1)
    for _ in range(15):
        env.step(dict.fromkeys(range(N_TRAINS), 2))
    builder, state = tree_builder(env), RailState.from_env(env)
    handles = list(range(N_TRAINS))

    def classic() -> None:
        for tree in builder.get_many(handles).values():
            normalize(tree)

    def ours() -> None:
        state.update(env)
        PLAIN.observe(state)

    return lambda: _timed(classic, 40), lambda: _timed(ours, 2000)


def _step() -> tuple[Callable[[], float], Callable[[], float]]:
    def classic() -> float:
        env = make_rail_env(CONFIG, 2)
        actions = dict.fromkeys(range(N_TRAINS), 2)
        env.step(actions)  # draws a million random numbers once
        return _timed(lambda: env.step(actions), env._max_episode_steps - 2)

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


def _making() -> tuple[Callable[[], float], Callable[[], float]]:
    """What flatland keeps of levels is forgotten before, as trainings do now and then."""

    def make(levels: range, make_level: Callable[..., object]) -> float:
        clear_flatland_caches()
        return _timed(lambda: [make_level(CONFIG, seed) for seed in levels], 1) / len(levels)

    return lambda: make(range(10), make_rail_env), lambda: make(range(40), make_rail_env_fast)


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

    return classic, lambda: _play(observer, policy, buffer, UPDATE_EVERY if learn else None)


def _play(observer: Observer, policy: DDDQNPolicy, buffer: ReplayBuffer, update_every: int | None) -> float:
    """Microseconds per step of one environment, with eight of them side by side until all are through."""
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
    return 1e6 * (time.process_time() - started) / n_steps


def _policy(*, shipped: bool, features: FeatureSet = FEATURES) -> DDDQNPolicy:
    """The network and the rule that learns: plain double DQN, or as the main command has it."""
    config = TrainingConfig() if shipped else TrainingConfig(advantage_learning=0.0, averaging_steps=1)
    return make_policy(config, features, 0, "cpu")


def _learning_step(name: str, policy: DDDQNPolicy, batch_size: int, limits: dict[str, float]) -> dict[str, Any]:
    """One learning step, sampling included, and the least time that its arithmetic and its memory traffic take."""
    buffer = full_buffer(100_000, FEATURES)
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
    """What the machine can do, a second."""
    return {
        "matmul_flops": matmul_rate(),
        "memory_bytes": copy_rate(2**28),
        "cache_bytes": copy_rate(parameter_bytes(_policy(shipped=True))),
    }


def _markdown(record: dict[str, Any]) -> str:
    machine, limits = record["machine"], record["limits"]
    rows, steps = [], []
    for row in record["rows"]:
        digits = 0 if row["ratio"] >= 20 else 1
        ratio, least, most = (f"{row[name]:.{digits}f}" for name in ("ratio", "ratio_min", "ratio_max"))
        times = [f"{row['classic_us']:.0f}", f"{row['ours_us']:.1f}"]
        rows.append([row["what"], *times, f"{ratio} ({least} to {most})"])
    for step in record["learning_steps"]:
        times = [f"{step['us']:.0f}", f"{step['limit_us']:.0f}", f"{100 * step['limit_us'] / step['us']:.0f} %"]
        arithmetic = f"{step['megaflop']:.0f} MFLOP, {step['arithmetic_us']:.0f} us"
        moved = [f"{step[f'{name}_kb']} kB, {step[f'{of}_us']:.0f} us" for name, of in _MOVED.items()]
        steps.append([step["what"], *times, arithmetic, *moved])
    how = (
        f"`OMP_NUM_THREADS=1 python benchmarks/throughput.py` on {machine['processor']}, one core of "
        f"{machine['cores']}, Python {machine['python']}. CPU time, medians; ratios round by round (least to most)."
    )
    meaning = (
        "The limit is the least that this core needs for a learning step: products of matrices at "
        f"{limits['matmul_flops'] / 1e9:.0f} GFLOP/s, copying memory at {limits['memory_bytes'] / 1e9:.1f} GB/s, "
        f"within the caches at {limits['cache_bytes'] / 1e9:.0f} GB/s, all measured in the same run."
    )
    headings = ["what", "classic way, us", "this kit, us", "ratio"]
    of_steps = ["learning step, sampling included", "us", "limit, us", "limit reached", "arithmetic", *_MOVED.values()]
    return "\n\n".join(["# Throughput", how, markdown_table(headings, rows), meaning, markdown_table(of_steps, steps)])


if __name__ == "__main__":
    main()
