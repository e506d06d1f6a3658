"""What all benchmarks share: the machine, means with their errors, tables, and the records beside the scripts."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from utils.system.files import PROJECT_ROOT, atomic_write


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


def seconds_of(work: Callable[[], object]) -> float:
    """Wall time of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean and its standard error; a single value has none."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
    return statistics.fmean(values), error


def with_error(mean: float, error: float | None, form: str = ".3f") -> str:
    """A mean and, behind ±, its standard error, where there is one."""
    return f"{mean:{form}}" + ("" if error is None else f" ± {error:.3f}")


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table with a row of cells for each of ``rows``."""
    lines = (headings, ["---"] * len(headings), *rows)
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in lines)


def keep(name: str, record: Any = None, page: str = "") -> None:
    """Writes the record ``benchmarks/NAME.json`` and the page ``benchmarks/NAME.md``, where there is one."""
    contents = {"json": json.dumps(record, indent=1) if record is not None else "", "md": page}
    for suffix, content in contents.items():
        if content:
            with atomic_write(PROJECT_ROOT / "benchmarks" / f"{name}.{suffix}") as file:
                file.write(f"{content.rstrip()}\n".encode())
