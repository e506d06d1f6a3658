"""What a search has found: tables for people and for spreadsheets, and the best configuration as a command line."""

import csv
import io
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reinforcement_learning.saving.checkpointing import BEST
from reinforcement_learning.search.study import State, Study, Trial
from reinforcement_learning.search.sweep_file import PROGRAM, Sweep
from reinforcement_learning.search.trial_process import METRICS_FILE, MetricFile, trial_name
from utils.system.files import PROJECT_ROOT, atomic_write

MARKDOWN_FILE, CSV_FILE = "results.md", "results.csv"


@dataclass(frozen=True)
class Result:
    """A trial with what its metrics say."""

    trial: Trial
    best: float  # of the metric, at any time; NaN without one
    episode: int
    seconds: float


def read_results(study: Study, sweep: Sweep, folder: Path) -> list[Result]:
    """All trials, the best first; those that were stopped early after those that were not, then the rest."""
    results = []
    for trial in study.trials():
        metrics = MetricFile(folder / trial_name(trial.number) / METRICS_FILE, sweep.metric)
        metrics.read()
        choose = max if sweep.maximize else min
        best = choose(metrics.values) if metrics.values else math.nan
        results.append(Result(trial, best, metrics.episode, metrics.seconds))
    order = [State.FINISHED, State.STOPPED, State.REPEATED, State.RUNNING, State.FAILED]
    sign = -1 if sweep.maximize else 1
    return sorted(
        results,
        key=lambda r: (
            order.index(r.trial.state),
            0.0 if math.isnan(r.trial.value) else sign * r.trial.value,
            r.trial.number,
        ),
    )


def best_of(results: Sequence[Result]) -> Result | None:
    """The trial with the best value at its end, stopped ones only where there are no others."""
    return results[0] if results and not math.isnan(results[0].trial.value) else None


def write_tables(results: Sequence[Result], sweep: Sweep, folder: Path) -> None:
    """Writes the table as CSV and, with the best configuration, as markdown.

    Raises:
        OSError: a file cannot be written; what was there is unharmed.
    """
    header, rows = _table(results, sweep)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    with atomic_write(folder / CSV_FILE) as file:
        file.write(text.getvalue().encode())
    lines = [" | ".join(cells) for cells in (header, ["---"] * len(header), *(_escaped(row) for row in rows))]
    markdown = "\n".join(f"| {line} |" for line in lines)
    best = best_of(results)
    if best is not None:
        markdown += (
            f"\n\nThe best configuration, trial {best.trial.number}:\n\n```bash\n{command_line(best, sweep)}\n```"
        )
    with atomic_write(folder / MARKDOWN_FILE) as file:
        file.write(f"{markdown}\n".encode())


def as_text(results: Sequence[Result], sweep: Sweep) -> str:
    """The table for a console."""
    header, rows = _table(results, sweep)
    shown = [[cell if len(cell) <= 60 else cell[:57] + "..." for cell in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in shown) for i in range(len(header))]
    return "\n".join("  ".join(f"{cell:>{w}}" for cell, w in zip(row, widths, strict=True)) for row in shown)


def command_line(result: Result, sweep: Sweep) -> str:
    """The training of a trial, as one would type it."""
    script = PROJECT_ROOT / "reinforcement_learning" / PROGRAM
    return shlex.join(["python", str(script), *sweep.arguments(result.trial.chosen)])


def best_checkpoint(result: Result, folder: Path) -> Path:
    """The checkpoint of a trial's best evaluation."""
    return folder / "checkpoints" / trial_name(result.trial.number) / BEST


def _table(results: Sequence[Result], sweep: Sweep) -> tuple[list[str], list[list[str]]]:
    names = [parameter.name for parameter in sweep.searched]
    header = ["trial", *names, sweep.metric, "best", "episodes", "minutes", "state"]
    rows = []
    for result in results:
        trial = result.trial
        state = trial.state.value + (f": {trial.note}" if trial.note else "")
        figures = [_number(trial.value, ".4f"), _number(result.best, ".4f")]
        done = [str(result.episode), _number(result.seconds / 60, ".1f")] if result.episode else ["", ""]
        chosen = [_value(trial.chosen.get(name, "")) for name in names]
        rows.append([str(trial.number), *chosen, *figures, *done, state])
    return header, rows


def _escaped(cells: Sequence[str]) -> list[str]:
    return [cell.replace("|", "\\|") for cell in cells]


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else f"{value:{form}}"


def _value(value: object) -> str:
    return f"{value:.6g}" if type(value) is float else str(value)
