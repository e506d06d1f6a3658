"""A picture of a search: each trial as a line through its parameters, and how much each parameter matters."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reinforcement_learning.search.parameters import Parameter
from reinforcement_learning.search.results import Result, best_of
from reinforcement_learning.search.study import State
from reinforcement_learning.search.sweep_file import Sweep
from utils.system.files import atomic_write

_BEST_COLOUR = "#c8442c"
_BAR_COLOUR = "#8fb3d9"
_GREY = "#444444"
_SPREAD = 0.05  # of an axis: lines through the same value lie that far apart at most, so that they can be counted


def draw_search(results: Sequence[Result], sweep: Sweep, importances: Mapping[str, float], path: Path) -> None:
    """Draws all trials with a result into a PNG, written beside and renamed.

    Args:
        results: in the order of ``read_results``.
        sweep: what was searched.
        importances: share of each parameter; none leaves the lower panel out.
        path: the picture.

    Raises:
        OSError: the picture cannot be written.
        ValueError: there is no trial to draw.
    """
    drawn = [r for r in results if r.trial.state in (State.FINISHED, State.STOPPED)]
    if not drawn:
        raise ValueError("no trial has a result to draw")
    figure = _draw(drawn, sweep, importances)
    with atomic_write(path) as file:
        figure.savefig(file, format="png")


def _draw(results: Sequence[Result], sweep: Sweep, importances: Mapping[str, float]) -> Any:
    # Figure and canvas without pyplot: no global state, no display, nothing to close.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    n_axes = len(sweep.searched) + 1
    bars_height = 0.3 * len(importances) + 0.9 if importances else 0.0
    figure = Figure(figsize=(max(8.0, 1.9 * n_axes + 1.5), 5.2 + bars_height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    heights = [5.2, bars_height] if importances else [5.2]
    panels = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    _draw_lines(panels[0], results, sweep)
    if importances:
        _draw_bars(panels[1], importances)
    return figure


def _draw_lines(axes: Any, results: Sequence[Result], sweep: Sweep) -> None:
    from matplotlib import colormaps

    values = np.array([result.trial.value for result in results])
    low, high = float(values.min()), float(values.max())
    span = (high - low) or 1.0
    order = np.argsort(values if sweep.maximize else -values)  # the best on top
    columns = [_positions(parameter, results) for parameter in sweep.searched]
    columns.append((values - low) / span if high > low else np.full(len(values), 0.5))
    heights = np.stack(columns, axis=1)
    best = best_of(results)
    for i in order:
        share = (values[i] - low) / span if sweep.maximize else (high - values[i]) / span
        stopped = results[i].trial.state is State.STOPPED
        x, y = _curve(heights[i])
        if results[i] is best:
            label = f"trial {best.trial.number}, the best: {best.trial.value:.4f}"
            axes.plot(x, y, color=_BEST_COLOUR, linewidth=2.6, zorder=3, label=label)
        else:
            style = (0, (3, 2)) if stopped else "solid"
            axes.plot(x, y, color=colormaps["viridis"](0.95 * share), linewidth=1.3, linestyle=style, alpha=0.8)
    if any(result.trial.state is State.STOPPED for result in results):
        axes.plot([], [], color=_GREY, linestyle=(0, (3, 2)), label="stopped early")
    for n, parameter in enumerate(sweep.searched):
        _draw_axis(axes, n, parameter.name, _ticks(parameter))
    ticks = (
        [(share, f"{low + share * span:.3f}") for share in np.linspace(0, 1, 5)]
        if high > low
        else [(0.5, f"{low:.3f}")]
    )
    _draw_axis(axes, len(sweep.searched), sweep.metric.replace("/", "/\n"), ticks, right=True)
    axes.set_xlim(-0.35, len(sweep.searched) + 0.35)
    axes.set_ylim(-0.05, 1.05)
    axes.axis("off")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=2, fontsize=9, frameon=False)
    axes.set_title(f"{len(results)} trials", fontsize=12, pad=34)


def _positions(parameter: Parameter, results: Sequence[Result]) -> Any:
    """Where each trial crosses the axis of a parameter, from 0 to 1."""
    chosen = [result.trial.chosen[parameter.name] for result in results]
    if not parameter.choices:
        return np.array([_share(parameter, float(value)) for value in chosen])
    positions = np.array([_choice_position(parameter, value) for value in chosen])
    for position in np.unique(positions):
        same = np.flatnonzero(positions == position)
        positions[same] += np.linspace(-1, 1, len(same)) * _SPREAD / 2 if len(same) > 1 else 0.0
    return positions


def _ordered(parameter: Parameter) -> list[Any]:
    """Numbers by size, everything else as it stands in the file."""
    numbers = all(isinstance(c, int | float) and not isinstance(c, bool) for c in parameter.choices)
    return sorted(parameter.choices) if numbers else list(parameter.choices)


def _choice_position(parameter: Parameter, value: Any) -> float:
    ordered = _ordered(parameter)
    return ordered.index(value) / (len(ordered) - 1)


def _share(parameter: Parameter, value: float) -> float:
    low, high = parameter.low, parameter.high
    if parameter.log:
        value, low, high = (math.log(max(x, 1e-300)) for x in (value, low, high))
    return float(np.clip((value - low) / (high - low), 0.0, 1.0))


def _ticks(parameter: Parameter) -> list[tuple[float, str]]:
    if parameter.choices:
        return [(_choice_position(parameter, value), str(value)) for value in parameter.choices]
    low, high = parameter.low, parameter.high
    points = np.geomspace(low, high, 5) if parameter.log else np.linspace(low, high, 5)
    values = [parameter.value(point) for point in points]
    return [(_share(parameter, float(value)), f"{value:.3g}") for value in dict.fromkeys(values)]


def _curve(heights: Any) -> tuple[Any, Any]:
    """A smooth line through the axes, level where it crosses them, so that crossing lines can be told apart."""
    t = np.linspace(0.0, 1.0, 30)
    ease = t * t * (3 - 2 * t)
    x = np.concatenate([n + t for n in range(len(heights) - 1)])
    y = np.concatenate([a + (b - a) * ease for a, b in itertools.pairwise(heights)])
    return x, y


def _draw_axis(axes: Any, x: int, name: str, ticks: Sequence[tuple[float, str]], right: bool = False) -> None:
    axes.plot([x, x], [-0.03, 1.03], color=_GREY, linewidth=1.0, zorder=4)
    axes.text(x, 1.06, name, ha="center", va="bottom", fontsize=10, fontweight="bold", color=_GREY)
    for position, text in ticks:
        axes.plot([x - 0.015, x + 0.015], [position, position], color=_GREY, linewidth=1.0, zorder=4)
        box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8}
        side, align = (0.03, "left") if right else (-0.03, "right")
        axes.text(x + side, position, text, ha=align, va="center", fontsize=8.5, color=_GREY, bbox=box, zorder=5)


def _draw_bars(axes: Any, importances: Mapping[str, float]) -> None:
    names = list(importances)[::-1]
    bars = axes.barh(names, [importances[name] for name in names], color=_BAR_COLOUR, height=0.65)
    axes.bar_label(bars, fmt="{:.0%}", padding=3, fontsize=8.5, color=_GREY)
    axes.set_xlim(0, 1.0)
    axes.set_xticks([])
    axes.set_title(
        "what the difference between good trials and others comes from (PED-ANOVA; rough with few trials)",
        fontsize=10,
        loc="left",
    )
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
