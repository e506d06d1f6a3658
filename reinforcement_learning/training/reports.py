"""What people are told of several policies: each exchange, and at the end how they play together and descend."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reinforcement_learning.multi_policy.cross_play import as_json, as_text, cross_play
from reinforcement_learning.multi_policy.exchange import KEPT, REPLACED
from reinforcement_learning.multi_policy.lineage import draw_lineage
from reinforcement_learning.tracking.metrics import of_policy
from utils.system.files import atomic_write

if TYPE_CHECKING:
    from reinforcement_learning.training.trainer import Trainer

CROSS_PLAY_FILE, LINEAGE_FILE = "cross_play.json", "lineage.png"


def exchange_row(exchange: dict[str, Any]) -> dict[str, float]:
    """The row of a step of population-based training: hyper-parameters from here on, and whose weights each has."""
    row: dict[str, float] = {}
    for p, values in enumerate(exchange["hyperparameters"]):
        row |= {of_policy(p, f"pbt/{name}"): value for name, value in values.items()}
        row[of_policy(p, "pbt/source")] = exchange["sources"][p]
    return row


def exchange_lines(exchange: dict[str, Any]) -> list[str]:
    """The same for people: a line for each policy that has changed, or one that says that none has."""
    lines = []
    for p, (kind, source) in enumerate(zip(exchange["kinds"], exchange["sources"], strict=True)):
        scores = exchange["scores"]
        if kind == KEPT:
            continue
        if kind == REPLACED:
            what = f"takes over from policy {source} (score {scores[p]:.3f} against {scores[source]:.3f})"
        else:
            what = f"learns on (score {scores[p]:.3f})"
        values = ", ".join(f"{name} {value:.3g}" for name, value in exchange["hyperparameters"][p].items())
        lines.append(f"exchange at episode {exchange['episode']}: policy {p} {what} with {values}")
    return lines or [f"exchange at episode {exchange['episode']}: all policies go on as they are"]


def report_several_policies(
    trainer: "Trainer", folder: Path, *, finished: bool, warn: Callable[[str], None]
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


def _report_cross_play(trainer: "Trainer", path: Path) -> list[str]:
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
