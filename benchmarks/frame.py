"""What all benchmarks share: options, the machine, times, means with errors, tables, the records beside the scripts."""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from utils.system.files import PROJECT_ROOT, atomic_write

SHIPPED = PROJECT_ROOT / "checkpoints" / "flatland_policy.pt"


def parser_of(page: str | None) -> argparse.ArgumentParser:
    """A parser for the options of the script with this docstring."""
    return argparse.ArgumentParser(description=(page or "").splitlines()[0])


def processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def machine() -> dict[str, Any]:
    """What stands beside every figure."""
    return {"processor": processor(), "cores": os.cpu_count(), "python": platform.python_version()}


def seconds_of(work: Callable[[], object], times: int = 1, clock: Callable[[], float] = time.perf_counter) -> float:
    """What a call takes, the mean of so many in a row; wall time unless another clock is given."""
    started = clock()
    for _ in range(times):
        work()
    return (clock() - started) / times


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean and its standard error; a single value has none."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
    return statistics.fmean(values), error


def with_error(mean: float, error: float | None, form: str = ".3f") -> str:
    """A mean and, behind ±, its standard error, where there is one."""
    return f"{mean:{form}}" + ("" if error is None else f" ± {error:{form.removeprefix('+')}}")


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table with a row of cells for each of ``rows``."""
    lines = (headings, ["---"] * len(headings), *rows)
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in lines)


def kept(name: str) -> dict[str, Any]:
    """The record that :func:`keep` has written; empty where there is none."""
    path = PROJECT_ROOT / "benchmarks" / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def keep(name: str, record: Any = None, page: str = "") -> None:
    """Writes the record ``benchmarks/NAME.json`` and the page ``benchmarks/NAME.md``, where there is one."""
    contents = {"json": json.dumps(record, indent=1) if record is not None else "", "md": page}
    for suffix, content in contents.items():
        if content:
            with atomic_write(PROJECT_ROOT / "benchmarks" / f"{name}.{suffix}") as file:
                file.write(f"{content.rstrip()}\n".encode())
