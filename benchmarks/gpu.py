"""Learning steps a second on a GPU, for networks and batches of many sizes, and what share that is of what it could do.

    python benchmarks/gpu.py

Writes gpu.json beside itself. ``--device cpu`` measures the same way of learning without a GPU, step by step.
"""

import argparse
import itertools
import json
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import torch  # noqa: E402

from benchmarks.frame import parser_of, processor, seconds_of  # noqa: E402
from benchmarks.limits import operations, update_bytes  # noqa: E402
from benchmarks.random_rows import full_buffer  # noqa: E402
from reinforcement_learning.learning.hyperparameters import Hyperparameters  # noqa: E402
from reinforcement_learning.learning.learner import make_policy  # noqa: E402
from reinforcement_learning.learning.replay_buffer import ReplayBuffer  # noqa: E402
from reinforcement_learning.learning.step_graph import WARM_UP_STEPS, GraphedStep, PlainCalls  # noqa: E402
from reinforcement_learning.settings.config import TrainingConfig  # noqa: E402
from reinforcement_learning.settings.features import feature_set_of  # noqa: E402

NETWORKS, WIDTHS, BATCHES = ("dueling", "attention"), (128, 256, 512, 1024), (128, 512, 2048, 8192, 16384)
DEFAULTS = Hyperparameters.of(TrainingConfig(wandb=False))
_ROUNDS = 5


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints, writes."""
    parser = parser_of(__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=NETWORKS)
    parser.add_argument("--widths", nargs="+", type=int, default=WIDTHS)
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--steps", type=int, default=200, help="learning steps in each of five rounds")
    parser.add_argument("--buffer_size", type=int, default=100_000)
    parser.add_argument("--num_policies", type=int, default=4, help="that learn in turn, in the last row")
    parser.add_argument("--matrix", type=int, default=4096, help="rows of the matrices that measure the limit")
    parser.add_argument("--output", type=Path, default=HERE / "gpu.json")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    limits = _limits(device, options.matrix)
    rows = []
    for network in options.networks:
        buffer = full_buffer(options.buffer_size, feature_set_of(_config(network)))
        for width, batch in itertools.product(options.widths, options.batches):
            rows.append(_row(network, width, batch, buffer, device, options.steps, limits))
            print("  ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    result = {
        "machine": f"{_name(device)}, {processor()}, Python {platform.python_version()}, PyTorch {torch.__version__}",
        "limits": limits,
        "rows": rows,
        "several_policies": _several(options, device),
    }
    print(result["several_policies"])
    options.output.write_text(json.dumps(result, indent=1) + "\n")


def _row(
    network: str, width: int, batch_size: int, buffer: ReplayBuffer, device: torch.device, n_steps: int, limits: Any
) -> dict[str, Any]:
    """One network and one size of a batch.

    ``us`` is a whole learning step with its drawing, ``plain_us`` the same kernel by kernel, ``replay_us`` the captured
    step alone, ``limit_us`` the least time for its arithmetic and its memory traffic.
    """
    what: dict[str, Any] = {"network": network, "width": width, "batch": batch_size}
    try:
        step, plain = (_step(network, width, buffer, device, graph) for graph in (None, PlainCalls()))
        times = {
            "us": _microseconds(lambda: _learn(step, batch_size), n_steps, device),
            "plain_us": _microseconds(lambda: _learn(plain, batch_size), n_steps, device),
            "replay_us": _microseconds(step._graph.replay, n_steps, device),
        }
        flops = operations(plain._compute)
    except torch.OutOfMemoryError:
        return what | {"failed": "out of memory"}
    gathered = 2 * batch_size * 2 * (4 * buffer.feature_set.n_features + 5)  # two rows each, read and written
    moved = gathered + update_bytes(plain._policy)
    limit = 1e6 * (flops / limits["flops_per_second"] + moved / limits["bytes_per_second"])
    return {
        **what,
        "steps_per_second": round(1e6 / times["us"], 1),
        **{name: round(value, 1) for name, value in times.items()},
        "limit_us": round(limit, 1),
        "share_of_limit": round(limit / times["us"], 3),
    }


def _several(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Several policies on the device, which take a learning step in turn, as in a training without Ray."""
    n = options.num_policies
    buffers = [full_buffer(options.buffer_size, feature_set_of(_config("dueling"))) for _ in range(n)]
    steps = [_step("dueling", options.widths[0], buffer, device, None, index) for index, buffer in enumerate(buffers)]

    def learn(learning: Sequence[GraphedStep]) -> None:
        for step in learning:
            _learn(step, options.batches[0])

    one, together = (_microseconds(partial(learn, steps[:k]), options.steps, device) for k in (1, n))
    return {
        "policies": n,
        "width": options.widths[0],
        "batch": options.batches[0],
        "steps_per_second_of_one": round(1e6 / one, 1),
        "steps_per_second_of_all": round(n * 1e6 / together, 1),
    }


def _config(network: str, width: int = 128) -> TrainingConfig:
    return TrainingConfig(network=network, hidden_size=width, wandb=False)


def _step(
    network: str, width: int, buffer: ReplayBuffer, device: torch.device, graph: PlainCalls | None, index: int = 0
) -> GraphedStep:
    policy = make_policy(_config(network, width), buffer.feature_set, index, device)
    return GraphedStep(policy, buffer, graph)


def _learn(step: GraphedStep, batch_size: int) -> None:
    step.learn(batch_size, DEFAULTS.reward_weights, DEFAULTS.n_step)


def _microseconds(work: Callable[[], object], times: int, device: torch.device) -> float:
    """What a call takes where calls follow each other without waiting for the device; the median of some rounds."""
    for _ in range(WARM_UP_STEPS + 2):
        work()
    _wait(device)

    def work_and_wait() -> None:
        for _ in range(times):
            work()
        _wait(device)

    return 1e6 * statistics.median(seconds_of(work_and_wait) for _ in range(_ROUNDS)) / times


def _limits(device: torch.device, size: int) -> dict[str, float]:
    """The rates of a large product of float32 matrices, and of a copy within the device, read and written."""
    first, second = (torch.rand(size, size, device=device) for _ in range(2))
    product, target = torch.empty_like(first), torch.empty_like(first)
    multiply = _microseconds(lambda: torch.mm(first, second, out=product), 5, device)
    move = _microseconds(lambda: target.copy_(first), 20, device)
    return {"flops_per_second": 1e6 * 2 * size**3 / multiply, "bytes_per_second": 1e6 * 2 * first.nbytes / move}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU"


if __name__ == "__main__":
    main()
