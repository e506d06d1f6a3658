"""Reports on several policies: rows and lines for each exchange, at the end the cross-play and the lineage."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reinforcement_learning.multi_policy.cross_play import as_json, as_text, cross_play
from reinforcement_learning.multi_policy.exchange import CONTROL, KEPT, REPLACED
from reinforcement_learning.multi_policy.lineage import draw_lineage
from reinforcement_learning.multi_policy.population import Population
from reinforcement_learning.saving.run_folders import RunFolders
from reinforcement_learning.tracking.metrics import of_policy
from utils.observation.observer import Observer
from utils.simulator.simulator import Simulator
from utils.system.files import atomic_write

CROSS_PLAY_FILE, LINEAGE_FILE = "cross_play.json", "lineage.png"


def hyperparameters_row(hyperparameters: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The row of what each policy of population-based training learns with from here on."""
    return {of_policy(p, f"pbt/{name}"): value for p, own in enumerate(hyperparameters) for name, value in own.items()}


def exchange_row(exchange: dict[str, Any]) -> dict[str, float]:
    """The row of a step of population-based training: hyper-parameters from here on, and whose weights each has."""
    sources = {of_policy(p, "pbt/source"): source for p, source in enumerate(exchange["sources"])}
    return hyperparameters_row(exchange["hyperparameters"]) | sources


def exchange_lines(exchange: dict[str, Any]) -> list[str]:
    """Lines for people: one for each policy that an exchange has changed, or one that says that it changed none."""
    lines = []
    for p, (kind, source) in enumerate(zip(exchange["kinds"], exchange["sources"], strict=True)):
        scores, objective = exchange["scores"], exchange.get("objective", "score")
        if kind == KEPT:
            continue
        if kind == REPLACED:
            what = f"takes over from policy {source} ({objective} {scores[p]:.3f} against {scores[source]:.3f})"
        else:
            what = f"learns on ({objective} {scores[p]:.3f})"
        own, of_control = exchange["hyperparameters"][p], exchange["hyperparameters"][CONTROL]
        changed = [f"{name} {value:.3g}" for name, value in own.items() if value != of_control[name]]
        values = ", ".join(changed) or "what the command line says"
        lines.append(f"exchange at episode {exchange['episode']}: policy {p} {what} with {values}")
    return lines or [f"exchange at episode {exchange['episode']}: all policies go on as they are"]


def report_several_policies(
    population: Population,
    levels: Callable[[], Iterable[Simulator]],
    observer: Observer,
    folders: RunFolders,
    *,
    n_episodes: int,
    with_cross_play: bool,
    should_stop: Callable[[], bool] = lambda: False,
    could_not_save: Callable[[Path, object], None],
) -> list[str]:
    """Writes the cross-play table and the picture of take-overs, where there are some; returns lines for people.

    Args:
        levels: gives the evaluation levels, the same each time.
        should_stop: asked between steps; True ends the cross-play.
    """
    lines = []
    path = folders.output / CROSS_PLAY_FILE
    try:
        if with_cross_play and len(population) > 1:
            policies, mapping = population.evaluation_policies(), population.mapping.policy_of_train
            if table := cross_play(policies, mapping, levels, observer, should_stop):
                lines.append(as_text(table))
                with atomic_write(path) as file:
                    file.write((json.dumps(as_json(table), indent=1) + "\n").encode())
                lines.append(f"  cross-play      {path}")
    except OSError as error:
        could_not_save(path, error.strerror)
    path = folders.output / LINEAGE_FILE
    try:
        if population.exchanges:
            first = [dataclasses.asdict(values) for values in population.first_hyperparameters]
            draw_lineage(population.exchanges, first, n_episodes, path, folders.name)
            lines.append(f"  lineage         {path}")
    except OSError as error:
        could_not_save(path, error.strerror)
    return lines
