"""What several policies cost: wall time of collecting and learning against one policy, at the same amount of both.

    OMP_NUM_THREADS=1 python benchmarks/several_policies.py

Both trainings run in this process, turn by turn in short stretches that each take as many learning steps; the first
stretches, in which replay buffers fill, are left out. Writes several_policies.json beside itself.
"""

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import torch  # noqa: E402

from benchmarks.machine import processor  # noqa: E402
from reinforcement_learning.saving.run_folders import RunFolders  # noqa: E402
from reinforcement_learning.settings.config import TrainingConfig  # noqa: E402
from reinforcement_learning.training.trainer import Trainer  # noqa: E402


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--num_policies", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=250, help="learning steps in a round")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        one, several = (_trainer(n, Path(folder)) for n in (1, options.num_policies))
        for trainer in (one, several):
            _stretch(trainer, 2 * options.steps)
        rounds = [[_stretch(trainer, options.steps) for trainer in (one, several)] for _ in range(options.rounds)]
    ratios = [together["seconds"] / alone["seconds"] for alone, together in rounds]
    result = {
        "what": f"seconds of {options.num_policies} policies / seconds of one, collecting and learning together",
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        # at the same number of learning steps; that of transitions may differ by some in a thousand
        "transitions": [sum(part[i]["transitions"] for part in rounds) for i in (0, 1)],
        "learning_steps": [sum(part[i]["learning_steps"] for part in rounds) for i in (0, 1)],
        "seconds": [sum(part[i]["seconds"] for part in rounds) for i in (0, 1)],
        "environment": "Test_1, defaults, one thread, one device: cpu",
        "machine": f"{processor()}, Python {platform.python_version()}, PyTorch {torch.__version__}",
    }
    (HERE / "several_policies.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"{result['what']}: {result['ratio']:.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")


def _trainer(num_policies: int, folder: Path) -> Trainer:
    config = TrainingConfig(
        training_env_config="1",
        evaluation_env_config="1",
        n_episodes=1_000_000,
        checkpoint_interval=1_000_000,
        num_policies=num_policies,
        buffer_size=20_000,
        level_workers=0,
        eps_decay=0.98,
        wandb=False,
    )
    return Trainer(config, RunFolders("benchmark", folder, folder, folder))


def _stretch(trainer: Trainer, learning_steps: int) -> dict[str, float]:
    """Plays and learns until so many learning steps are done; without the making of levels, which costs both alike."""
    population, stopwatch = trainer.population, trainer.stopwatch
    steps, added, resets = population.learning_steps, population.n_added, stopwatch.seconds["reset"]
    started = time.perf_counter()
    while population.learning_steps < steps + learning_steps:
        trainer.play_and_learn()
    seconds = time.perf_counter() - started - (stopwatch.seconds["reset"] - resets)
    return {
        "seconds": seconds,
        "transitions": population.n_added - added,
        "learning_steps": population.learning_steps - steps,
    }


if __name__ == "__main__":
    main()
