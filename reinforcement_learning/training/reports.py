"""Rows and lines on population-based training: what policies learn with, and what each exchange has done."""

from collections.abc import Mapping, Sequence
from typing import Any

from reinforcement_learning.multi_policy.exchange import CONTROL, KEPT, REPLACED
from reinforcement_learning.tracking.metrics import of_policy


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
