"""A picture of population-based training: from which policy each has its weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reinforcement_learning.multi_policy.exchange import REPLACED
from utils.system.files import atomic_write

_COLOURS = ("#4472a8", "#c8442c", "#2e7d4f", "#b8860b", "#7b4fa3", "#4a6572", "#a0527f", "#8a5a2b")


def founders(exchanges: Sequence[dict[str, Any]], n_policies: int) -> list[list[int]]:
    """For each stretch between exchanges, the policy whose first weights each policy's weights come from."""
    stretches = [list(range(n_policies))]
    for exchange in exchanges:
        stretches.append([stretches[-1][source] for source in exchange["sources"]])
    return stretches


def draw_lineage(exchanges: Sequence[dict[str, Any]], n_policies: int, n_episodes: int, path: Path, title: str) -> None:
    """Draws a line for each policy, in the colour of the founder of its weights, with an arrow for each take-over.

    Raises:
        OSError: the picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 1.5 + 0.45 * n_policies), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots()
    edges = [0, *(exchange["episode"] for exchange in exchanges), n_episodes]
    for left, right, of_policy in zip(edges, edges[1:], founders(exchanges, n_policies), strict=False):
        for policy, founder in enumerate(of_policy):
            axes.plot([left, right], [policy, policy], color=_COLOURS[founder % len(_COLOURS)], linewidth=3.0)
    for exchange in exchanges:
        _mark(axes, exchange)
    axes.set_yticks(range(n_policies), [f"policy {p}" + (" (control)" if p == 0 else "") for p in range(n_policies)])
    axes.set_ylim(n_policies - 0.4, -0.8)
    axes.set_xlabel("episode; numbers are scores, arrows take-overs, colours the founders of the weights")
    axes.set_title(title, fontsize=11)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    with atomic_write(path) as file:
        figure.savefig(file, format="png")


def _mark(axes: Any, exchange: dict[str, Any]) -> None:
    episode = exchange["episode"]
    axes.axvline(episode, color="#dddddd", linewidth=0.8, zorder=0)
    for policy, (kind, source, score) in enumerate(
        zip(exchange["kinds"], exchange["sources"], exchange["scores"], strict=True)
    ):
        place = {"xy": (episode, policy), "xytext": (-3, 4), "textcoords": "offset points", "ha": "right"}
        axes.annotate(f"{score:.3f}", **place, fontsize=6.5, color="#444444")
        if kind == REPLACED:
            arrow = {"arrowstyle": "-|>", "color": "#222222", "linewidth": 1.0, "shrinkA": 2, "shrinkB": 3}
            axes.annotate("", xy=(episode, policy), xytext=(episode, source), arrowprops=arrow)
