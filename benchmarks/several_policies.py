"""What several policies cost: wall time of collecting and learning against one policy, at the same amount of both.

    OMP_NUM_THREADS=1 python benchmarks/several_policies.py

Both trainings run in this process, turn by turn in short stretches that each take as many learning steps; the first
stretches, in which replay buffers fill, are left out, and so is the making of levels, which costs both alike. Writes
several_policies.json beside itself.
"""

import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from benchmarks.frame import keep, machine, parser_of
from benchmarks.stretches import stretch, training
from reinforcement_learning.training.trainer import Trainer


def main() -> None:
    """Measures, prints, writes."""
    parser = parser_of(__doc__)
    parser.add_argument("--num_policies", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=250, help="learning steps in a round")
    options = parser.parse_args()
    torch.set_num_threads(1)
    shared: dict[str, Any] = {"buffer_size": 20_000, "level_workers": 0}
    with training(**shared) as one, training(num_policies=options.num_policies, **shared) as several:
        for trainer in (one, several):
            _take(trainer, 2 * options.steps)
        rounds = [[_take(trainer, options.steps) for trainer in (one, several)] for _ in range(options.rounds)]
    ratios = [of_several["seconds"] / alone["seconds"] for alone, of_several in rounds]
    record = {
        "what": f"seconds of {options.num_policies} policies / seconds of one, collecting and learning together",
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        # at the same number of learning steps; that of transitions may differ by some in a thousand
        **{
            name: [sum(part[i][name] for part in rounds) for i in (0, 1)]
            for name in ("transitions", "learning_steps", "seconds")
        },
        "environment": "Test_1, defaults, one thread, one device: cpu",
        "machine": machine(),
    }
    keep("several_policies", record)
    print(f"{record['what']}: {record['ratio']:.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")


def _take(trainer: Trainer, learning_steps: int) -> dict[str, float]:
    end = trainer.population.learning_steps + learning_steps
    done = stretch(trainer, lambda seconds: trainer.population.learning_steps >= end)
    return done | {"seconds": done["seconds"] - done["resetting"]}


if __name__ == "__main__":
    main()
