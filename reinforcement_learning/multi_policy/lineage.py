"""A picture of population-based training: from which policy each has its weights, and how hyper-parameters changed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reinforcement_learning.multi_policy.exchange import CONTROL, REPLACED
from utils.pictures.colours import as_hex, policy_colour
from utils.system.files import atomic_write

_COLUMNS = 2  # of charts of hyper-parameters


def founders(exchanges: Sequence[dict[str, Any]], n_policies: int) -> list[list[int]]:
    """For each stretch between exchanges, the policy whose first weights each policy's weights come from."""
    stretches = [list(range(n_policies))]
    for exchange in exchanges:
        stretches.append([stretches[-1][source] for source in exchange["sources"]])
    return stretches


def changed(exchanges: Sequence[dict[str, Any]], first: Sequence[Mapping[str, float]]) -> dict[str, list[list[float]]]:
    """The hyper-parameters that were not the same always and everywhere: name -> for each stretch that of each policy.

    Args:
        exchanges: all of a training; those of an earlier version do not tell all hyper-parameters.
    """
    stretches = [first, *(exchange["hyperparameters"] for exchange in exchanges)]
    values = {
        name: [
            [own.get(name, began[name]) for own, began in zip(of_policy, first, strict=True)] for of_policy in stretches
        ]
        for name in first[0]
    }
    return {name: of_stretch for name, of_stretch in values.items() if len({v for s in of_stretch for v in s}) > 1}


def draw_lineage(
    exchanges: Sequence[dict[str, Any]], first: Sequence[Mapping[str, float]], n_episodes: int, path: Path, title: str
) -> None:
    """Draws a line for each policy, in the colour of the founder of its weights, with an arrow for each take-over.

    Below, each hyper-parameter that was changed has a chart with a curve for each policy.

    Raises:
        OSError: the picture cannot be written.
    """
    from matplotlib.figure import Figure

    n_policies, charts = len(exchanges[0]["sources"]), changed(exchanges, first)
    n_rows = -(-len(charts) // _COLUMNS)
    heights = [1.2 + 0.4 * n_policies, *[1.5] * n_rows]
    figure = Figure(figsize=(9.0, sum(heights) + 0.3), dpi=110, layout="constrained")
    cells = figure.add_gridspec(1 + n_rows, _COLUMNS, height_ratios=heights)
    edges = [0, *(exchange["episode"] for exchange in exchanges), n_episodes]
    _draw_founders(figure.add_subplot(cells[0, :]), exchanges, edges)
    for index, (name, values) in enumerate(charts.items()):
        row, column = divmod(index, _COLUMNS)
        axes = figure.add_subplot(cells[1 + row, column])
        _draw_hyperparameter(axes, name, values, edges)
        if row == n_rows - 1:
            axes.set_xlabel("episode")
    figure.suptitle(title, fontsize=11)
    with atomic_write(path) as file:
        figure.savefig(file, format="png")


def _draw_founders(axes: Any, exchanges: Sequence[dict[str, Any]], edges: Sequence[int]) -> None:
    n_policies = len(exchanges[0]["sources"])
    for left, right, of_policy in zip(edges[:-1], edges[1:], founders(exchanges, n_policies), strict=True):
        for policy, founder in enumerate(of_policy):
            axes.plot([left, right], [policy, policy], color=as_hex(policy_colour(founder)), linewidth=3.0)
    for exchange in exchanges:
        _mark(axes, exchange)
    names = [f"policy {p}" + (" (control)" if p == CONTROL else "") for p in range(n_policies)]
    axes.set_yticks(range(n_policies), names)
    for label, policy in zip(axes.get_yticklabels(), range(n_policies), strict=True):
        label.set_color(as_hex(policy_colour(policy)))
    axes.set_ylim(n_policies - 0.4, -0.8)
    ranked_by = exchanges[-1].get("objective", "score")
    axes.set_xlabel(f"episode; numbers: {ranked_by}, arrows: take-overs, colours: the founders of the weights")
    axes.spines[["top", "right", "left"]].set_visible(False)


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


def _draw_hyperparameter(axes: Any, name: str, values: Sequence[Sequence[float]], edges: Sequence[int]) -> None:
    """A step for each exchange; factors are what is changed, so the axis is one of factors."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    n_policies = len(values[0])
    for policy in reversed(range(n_policies)):  # the control lies on top
        of_policy = [stretch[policy] for stretch in values]
        colour = as_hex(policy_colour(policy))
        axes.step(edges, [*of_policy, of_policy[-1]], where="post", color=colour, linewidth=1.4)
    axes.set_title(name, fontsize=9, loc="left", pad=3)
    if min(min(stretch) for stretch in values) > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0), numticks=20))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:.4g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        # at least half and twice the middle, so that there are numbers at the axis
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, (low * high) ** 0.5 / 2), max(high, (low * high) ** 0.5 * 2))
    axes.tick_params(labelsize=7)
    axes.grid(True, color="#eeeeee", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
