"""benchmarks/gpu.py runs, on the CPU with tiny sizes; what it measures there is of no interest."""

import json
from pathlib import Path

from benchmarks import gpu


def test_measures_every_network_and_size(tmp_path: Path) -> None:
    tiny = ["--device=cpu", "--steps=1", "--buffer_size=40", "--matrix=8", "--num_policies=2"]
    sizes = ["--widths", "4", "8", "--batches", "2", "4"]
    gpu.main([*tiny, *sizes, "--output", str(tmp_path / "gpu.json")])
    result = json.loads((tmp_path / "gpu.json").read_text())
    measured = [(row["network"], row["width"], row["batch"]) for row in result["rows"]]
    assert measured == [(n, w, b) for n in ("dueling", "attention") for w in (4, 8) for b in (2, 4)]
    assert all(row["steps_per_second"] > 0 < row["limit_us"] for row in result["rows"])
    several = result["several_policies"]
    assert several["policies"] == 2
    assert several["steps_per_second_of_all"] > 0
