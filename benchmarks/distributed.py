"""What Ray costs and brings: one rollout actor and a learner against the local mode, then growth by calculation.

    OMP_NUM_THREADS=1 python benchmarks/distributed.py

Both trainings are the default one on Test_1, turn by turn in stretches of some seconds, with the same learning steps
for each transition. Then the cost of a message and of a broadcast is measured, and from all that follows what more
rollout actors and more learners would do. Writes distributed.md and distributed.json beside itself.
"""

import os
import pickle
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psutil
import torch

from benchmarks.frame import keep, markdown_table, parser_of, processor
from benchmarks.random_rows import random_rows
from benchmarks.stretches import OPTIONS, stretch, training
from reinforcement_learning.distributed.session import RaySession
from reinforcement_learning.playing.episode_rows import EpisodeRows
from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.training.trainer import Trainer
from reinforcement_learning.workers.round_player import DECISIONS_IN_ROUND

ROLLOUT_ACTORS, LEARNERS = (1, 2, 4, 8, 16, 32, 64), (1, 2, 4, 8)
ACTORS_ON_A_MACHINE = 16


def main() -> None:
    """Measures, calculates, prints, writes."""
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=5.0, help="of a stretch")
    options = parser.parse_args()
    torch.set_num_threads(1)
    load = psutil.getloadavg()[0]
    config = TrainingConfig(async_rl=True, **OPTIONS)
    with RaySession(config):
        result = compare(options.rounds, options.seconds) | messages(config)
    result["machine"] = (
        f"{processor()}, {os.cpu_count()} cores with a load of {load:.0f} before, Python {platform.python_version()}"
    )
    text = report(result)
    keep("distributed", result, text)
    print(text)


# --- one rollout actor and one learner against one process -------------------------------------------------------


def compare(n_rounds: int, seconds: float) -> dict[str, Any]:
    """Transitions per second of both modes, and what they spend them on."""
    with training() as local, training(async_rl=True) as on_ray:
        for trainer in (local, on_ray):
            while trainer.population.learning_steps < 200:
                trainer.play_and_learn()
        rounds = [[_after_a_while(trainer, seconds) for trainer in (local, on_ray)] for _ in range(n_rounds)]
    ratios = [apart["transitions"] / apart["seconds"] / (one["transitions"] / one["seconds"]) for one, apart in rounds]
    sums = [{name: sum(part[i][name] for part in rounds) for name in rounds[0][i]} for i in (0, 1)]
    return {
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "local": sums[0],
        "ray": sums[1],
        "replay_ratio": [trainer.population.replay_ratio for trainer in (local, on_ray)],
    }


def _after_a_while(trainer: Trainer, seconds: float) -> dict[str, float]:
    stretch(trainer, lambda passed: passed >= 0.5)  # what was on its way does not count
    return stretch(trainer, lambda passed: passed >= seconds)


# --- messages ----------------------------------------------------------------------------------------------------


class Sender:
    """An actor that leaves a round of transitions, or weights, in the object store."""

    def __init__(self, n_features: int) -> None:
        self._rows = random_rows(DECISIONS_IN_ROUND, n_features)

    def send(self, weights: Any = None) -> EpisodeRows:
        """A round; ``weights`` are what it takes to get some."""
        return self._rows


def messages(config: TrainingConfig) -> dict[str, Any]:
    """Seconds that messages take; each is the median of the means of some batches."""
    import ray

    from reinforcement_learning.learning.hosted_learner import HostedLearner
    from reinforcement_learning.settings.features import feature_set_of

    n_features = feature_set_of(config).n_features
    sender = ray.remote(Sender).options(num_cpus=1).remote(n_features)
    # it stores what it gets and never learns
    idle = TrainingConfig(**OPTIONS | {"buffer_min_size": config.buffer_size})
    learner = ray.remote(HostedLearner).options(num_cpus=1).remote(idle, 0, "cpu")
    references = [sender.send.remote() for _ in range(20)]
    ray.wait(references, num_returns=len(references))
    weights = learner.weights.options(num_returns=2).remote()[1]
    result = {
        "transitions_in_round": DECISIONS_IN_ROUND,
        "round_bytes": len(pickle.dumps(random_rows(DECISIONS_IN_ROUND, n_features), protocol=5)),
        "weights_bytes": ray.get(weights).nbytes,
        "send_round": each(lambda: [sender.send.remote() for _ in range(20)]),
        "learner_takes_round": each(lambda: [learner.learn_from.remote(reference, 0.0) for reference in references]),
        "send_weights": each(lambda: [learner.weights.options(num_returns=2).remote()[0] for _ in range(20)]),
        "take_weights_and_send_round": each(lambda: [sender.send.remote(weights) for _ in range(20)]),
    }
    for actor in (sender, learner):
        ray.kill(actor)
    return result


def each(calls: Callable[[], list[Any]]) -> float:
    """Seconds for each of the calls, which are made at once, as trainings make them."""
    import ray

    seconds = []
    for _ in range(9):
        started = time.perf_counter()
        answers = calls()
        ray.wait(answers, num_returns=len(answers), fetch_local=False)
        seconds.append((time.perf_counter() - started) / len(answers))
    return statistics.median(seconds)


# --- growth, by calculation --------------------------------------------------------------------------------------


def rates(result: dict[str, Any]) -> dict[str, float]:
    """Transitions per second that one core of each kind can do."""
    n, ray = result["transitions_in_round"], result["ray"]
    return {
        "rollout": 1 / (ray["collecting"] / ray["transitions"] + result["send_round"] / n),
        "learner": 1 / (ray["learning"] / ray["transitions"] + result["learner_takes_round"] / n),
        "driver": 1 / (ray["processor_seconds"] / ray["transitions"]),
    }


def bytes_per_second(result: dict[str, Any], throughput: float, n_rollouts: int) -> float:
    """What the network carries: transitions to the learners, weights to each machine with rollout actors."""
    config = TrainingConfig(**OPTIONS)
    transitions = throughput * result["round_bytes"] / result["transitions_in_round"]
    broadcasts = throughput / config.update_every / config.broadcast_every
    n_machines = -(-n_rollouts // ACTORS_ON_A_MACHINE)
    return transitions + broadcasts * result["weights_bytes"] * n_machines


def growth_table(result: dict[str, Any]) -> str:
    """Transitions per second by the number of rollout actors and of learners, and what bounds them."""
    rate = rates(result)

    def cell(n: int, m: int) -> str:
        limits = {"rollouts": n * rate["rollout"], "learners": m * rate["learner"], "driver": rate["driver"]}
        bound = min(limits, key=lambda name: limits[name])
        network = bytes_per_second(result, limits[bound], n) * 8 / 1e9
        return f"{limits[bound]:,.0f} ({bound}; {network:.2f} Gbit/s)"

    headings = ["rollout actors", *(f"{m} learner{'s' * (m > 1)}" for m in LEARNERS)]
    return markdown_table(headings, [[n, *(cell(n, m) for m in LEARNERS)] for n in ROLLOUT_ACTORS])


def report(result: dict[str, Any]) -> str:
    """All of it as text."""
    parts = [
        "# Ray: one machine measured, more calculated",
        f"`OMP_NUM_THREADS=1 python benchmarks/distributed.py` on {result['machine']}. Test_1, default options, CPUs.",
        *_comparison(result),
        _costs(result),
        "## Growth, calculated from these figures",
        *_growth(result),
    ]
    return "\n\n".join(parts)


def _comparison(result: dict[str, Any]) -> list[str]:
    local, ray, ratios = result["local"], result["ray"], result["ratios"]
    collecting, learning = (1e6 * local[part] / local["transitions"] for part in ("collecting", "learning"))
    at_best = (collecting + learning) / max(collecting, learning)
    of_local, of_ray = result["replay_ratio"]
    rows = [
        [name, *(f"{of[what] / of['seconds']:,.0f}" for what in ("transitions", "learning_steps"))]
        for name, of in (("local", local), ("Ray", ray))
    ]
    return [
        f"**One rollout actor and one learner: {result['ratio']:.2f} times the transitions per second of the local "
        f"mode** (median of {len(ratios)} turns, from {min(ratios):.2f} to {max(ratios):.2f}), at replay ratios of "
        f"{of_local:.2f} (local) and {of_ray:.2f}.",
        markdown_table(["mode", "transitions per second", "learning steps per second"], rows),
        f"In the local mode a transition takes {collecting:.0f} µs to collect and {learning:.0f} µs to learn from, one "
        f"after the other. Side by side the longer of the two remains, which is at best {at_best:.2f} times as fast.",
    ]


def _costs(result: dict[str, Any]) -> str:
    in_driver = result["transitions_in_round"] / rates(result)["driver"]
    rows = [
        (f"a round of {result['transitions_in_round']} transitions", f"{result['round_bytes'] / 1e3:.0f} kB"),
        ("... into the object store, in a rollout actor", _ms(result["send_round"])),
        ("... out of it and into the replay buffer, in the learner", _ms(result["learner_takes_round"])),
        ("... its bookkeeping in the driver", _ms(in_driver)),
        ("weights of a policy", f"{result['weights_bytes'] / 1e3:.0f} kB"),
        ("... into the object store, in the learner", _ms(result["send_weights"])),
        ("... taken by a rollout actor, with the round that it sends", _ms(result["take_weights_and_send_round"])),
    ]
    return markdown_table(["cost", "measured"], rows)


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.2f} ms"


def _growth(result: dict[str, Any]) -> list[str]:
    rate = rates(result)
    kilobytes = result["round_bytes"] / result["transitions_in_round"] / 1e3
    full = 1e9 / 8 / (1e3 * kilobytes)
    return [
        f"A rollout actor collects {rate['rollout']:,.0f} transitions per second, a learner takes "
        f"{rate['learner']:,.0f}, the driver passes on {rate['driver']:,.0f}. Transitions per second, what bounds "
        f"them, and what the network carries, with a core for each actor and {ACTORS_ON_A_MACHINE} rollout actors on "
        "a machine:",
        growth_table(result),
        f"- **A learner** on such a core is saturated by {rate['learner'] / rate['rollout']:.1f} rollout actors. A "
        "larger `--update_every` or a faster device moves that; each further learner feeds on as many again.\n"
        f"- **The network**: a transition is {kilobytes:.1f} kB, so a link of 1 Gbit/s into the machine of the "
        f"learners is full at {full:,.0f} transitions per second.\n"
        f"- **The driver** is full at {rate['driver']:,.0f} transitions per second.",
    ]


if __name__ == "__main__":
    main()
