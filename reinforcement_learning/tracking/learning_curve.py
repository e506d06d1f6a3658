"""Draws the learning curve of a training from its file of JSON lines."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reinforcement_learning.tracking.metrics import ENVIRONMENT_ADDED
from utils.pictures.colours import as_hex, policy_colour
from utils.system.files import atomic_write

_Floats = NDArray[np.float64]

_TRAINING_COLOUR = "#8fb3d9"
_EVALUATION_COLOUR = "#c8442c"
_EPSILON_COLOUR = "#7a7a7a"
_MEANS = 100  # a point is the mean over a hundredth of the training
_ADDED_COLOUR = "#555555"
_MAX_NAMED = 8  # policies in the legend; more would hide the curves


def draw_learning_curve(jsonl_path: str | Path, png_path: str | Path, title: str) -> None:
    """Draws score, completion and epsilon over episodes into a PNG, written beside and renamed.

    With several policies there is a curve for each policy alone, and an epsilon for each. A thin vertical line with its
    name is where an environment was added to the training.

    Evaluation means come with a band of one standard error where the row tells the number of evaluation episodes
    (``evaluation/nb_episodes``), else of one standard deviation; the legend says which.

    Args:
        jsonl_path: a file of JSON lines as ``JsonLinesSink`` writes it. Lines that are no whole row are skipped.

    Raises:
        OSError: the file cannot be read or the picture not written.
        ValueError: the file holds no row.
    """
    rows = _read_rows(Path(jsonl_path))
    if not rows:
        raise ValueError(f"{jsonl_path} holds no row of metrics to draw")
    figure = _draw(rows, title)
    with atomic_write(png_path) as file:
        figure.savefig(file, format="png")


def _read_rows(path: Path) -> list[dict[str, Any]]:
    rows = []
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and isinstance(row.get("episode"), int):
                rows.append(row)
    return rows


def _draw(rows: list[dict[str, Any]], title: str) -> Any:
    # Figure and canvas without pyplot: no global state, no display, nothing to close.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 7.2), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=13)
    score, completion, epsilon = figure.subplots(3, 1, sharex=True, height_ratios=(5, 5, 1))
    _draw_panel(score, rows, "score", "normalized score")
    _draw_panel(completion, rows, "completion", "completion")
    _format_completion_axis(completion)
    _draw_epsilon(epsilon, rows)
    _mark_added(rows, score, completion, epsilon)
    return figure


def _series(rows: list[dict[str, Any]], name: str) -> tuple[_Floats, _Floats]:
    """Episodes and values of a metric where it is a finite number; two arrays of one length, sorted by episode."""
    pairs = [
        (row["episode"], row[name])
        for row in rows
        if isinstance(row.get(name), int | float) and math.isfinite(row[name])
    ]
    array = np.array(sorted(pairs), dtype=np.float64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def _means(x: _Floats, y: _Floats) -> tuple[_Floats, _Floats]:
    """Means over equal stretches. Episodes side by side end in another order than they began, which jags a curve."""
    if len(x) <= _MEANS:
        return x, y
    part = (np.arange(len(x)) * _MEANS) // len(x)
    counts = np.bincount(part)
    return np.bincount(part, x) / counts, np.bincount(part, y) / counts


def _draw_panel(axes: Any, rows: list[dict[str, Any]], name: str, label: str) -> None:
    x, y = _means(*_series(rows, f"training/{name}"))
    if len(x):
        axes.plot(x, y, color=_TRAINING_COLOUR, linewidth=1.0, label="training, means (with exploration)")
    x, mean, band, band_name = _evaluation_band(rows, f"{name}s")
    if len(x):
        # Single points are seen only with a marker; hundreds of markers would hide the line.
        marker = "o" if len(x) <= 60 else None
        text = f"evaluation, mean{band_name}"
        axes.plot(x, mean, color=_EVALUATION_COLOUR, linewidth=1.6, marker=marker, markersize=3.5, label=text)
        axes.fill_between(x, mean - band, mean + band, color=_EVALUATION_COLOUR, alpha=0.15, linewidth=0)
    for policy in _policies(rows):
        x, mean = _series(rows, f"policy_{policy:02d}/evaluation/{name}s_mean")
        text = f"policy {policy} alone" if name == "score" and policy < _MAX_NAMED else "_"
        axes.plot(x, mean, color=as_hex(policy_colour(policy)), linewidth=1.0, linestyle="--", label=text)
    axes.set_ylabel(label)
    _style(axes)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best", fontsize=8, framealpha=0.85, edgecolor="none")


def _policies(rows: list[dict[str, Any]]) -> list[int]:
    """The numbers of the policies that metrics tell apart; none where there is one policy."""
    names = {name.partition("/")[0] for row in rows for name in row if name.startswith("policy_")}
    return sorted(int(name.removeprefix("policy_")) for name in names)


def _evaluation_band(rows: list[dict[str, Any]], name: str) -> tuple[_Floats, _Floats, _Floats, str]:
    """Episodes, means, half-widths of the band and what the band is, of the evaluation rows."""
    x, mean = _series(rows, f"evaluation/{name}_mean")
    deviations = dict(zip(*_series(rows, f"evaluation/{name}_std"), strict=True))
    counts = dict(zip(*_series(rows, "evaluation/nb_episodes"), strict=True))
    deviation = np.array([deviations.get(episode, 0.0) for episode in x])
    if not deviations:
        return x, mean, deviation, ""
    if len(x) and all(counts.get(episode, 0.0) >= 2 for episode in x):
        # The deviation is numpy's over the episodes themselves (ddof 0), hence n - 1.
        return x, mean, deviation / np.sqrt([counts[episode] - 1.0 for episode in x]), " ± standard error"
    return x, mean, deviation, " ± standard deviation"


def _draw_epsilon(axes: Any, rows: list[dict[str, Any]]) -> None:
    policies = _policies(rows)
    if not policies:
        x, y = _means(*_series(rows, "training/epsilon"))
        axes.fill_between(x, 0.0, y, color=_EPSILON_COLOUR, alpha=0.25, linewidth=0)
        axes.plot(x, y, color=_EPSILON_COLOUR, linewidth=1.0)
    for policy in policies:
        x, y = _means(*_series(rows, f"policy_{policy:02d}/training/epsilon"))
        axes.plot(x, y, color=as_hex(policy_colour(policy)), linewidth=1.0)
    axes.set_ylim(0.0, 1.0)
    axes.set_yticks([0.0, 1.0])
    axes.set_ylabel("epsilon")
    axes.set_xlabel("episode")
    axes.margins(x=0.01)
    _style(axes)


def _mark_added(rows: list[dict[str, Any]], top: Any, *others: Any) -> None:
    """Where environments were added; the name stands at the top panel's lower end, where curves seldom are."""
    for row in rows:
        for name in (name for name in row if name.startswith(ENVIRONMENT_ADDED)):
            for axes in (top, *others):
                axes.axvline(row["episode"], color=_ADDED_COLOUR, linewidth=0.8, linestyle=":")
            top.annotate(
                name.removeprefix(ENVIRONMENT_ADDED),
                (row["episode"], 0.02),
                xycoords=("data", "axes fraction"),
                xytext=(3, 0),
                textcoords="offset points",
                rotation=90,
                fontsize=8,
                parse_math=False,
                color=_ADDED_COLOUR,
            )


def _format_completion_axis(axes: Any) -> None:
    from matplotlib.ticker import PercentFormatter

    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=0))
    # A band may reach below 0 or above 1, completion cannot; the upper end stays free so that a slow start shows.
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -0.01), min(high, 1.01))


def _style(axes: Any) -> None:
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
