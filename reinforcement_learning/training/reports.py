"""What is told at the end of a training of several policies: who gets along with whom, and who descends from whom."""

import json
from collections.abc import Callable
from pathlib import Path

from reinforcement_learning.multi_policy.cross_play import as_json, as_text, cross_play
from reinforcement_learning.multi_policy.lineage import draw_lineage
from reinforcement_learning.training.trainer import Trainer
from utils.system.files import atomic_write

CROSS_PLAY_FILE, LINEAGE_FILE = "cross_play.json", "lineage.png"


def report_several_policies(
    trainer: Trainer, folder: Path, *, finished: bool, warn: Callable[[str], None]
) -> list[str]:
    """Writes the cross-play table and the lineage picture, where there is something to tell; returns lines for people.

    The cross-play of an interrupted training is left out: whoever interrupts does not want to wait.
    """
    lines = []
    try:
        if finished and trainer.config.cross_play and len(trainer.population) > 1:
            lines += _report_cross_play(trainer, folder / CROSS_PLAY_FILE)
        if trainer.population.exchanges:
            path = folder / LINEAGE_FILE
            n_policies, n_episodes = len(trainer.population), trainer.episode
            draw_lineage(trainer.population.exchanges, n_policies, n_episodes, path, trainer.folders.name)
            lines.append(f"  lineage         {path}")
    except OSError as error:
        warn(f"a report of the policies could not be written ({error.strerror}).")
    return lines


def _report_cross_play(trainer: Trainer, path: Path) -> list[str]:
    population = trainer.population
    table = cross_play(
        population.evaluation_policies(),
        population.mapping.policy_of_train,
        trainer.levels_to_evaluate,
        trainer.observer,
        trainer.stop_requested,
    )
    if not table:
        return []
    with atomic_write(path) as file:
        file.write((json.dumps(as_json(table), indent=1) + "\n").encode())
    return [as_text(table), f"  cross-play      {path}"]
