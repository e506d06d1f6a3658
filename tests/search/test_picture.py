"""The picture of a search: each trial crosses the axes where its values are."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reinforcement_learning.search import picture
from reinforcement_learning.search.picture import draw_search
from reinforcement_learning.search.results import Result
from reinforcement_learning.search.study import State, Trial
from reinforcement_learning.search.sweep_file import Sweep
from tests.helpers.searches import make_sweep

SEARCHED = {
    "hidden_size": {"values": [64, 16, 32]},
    "learning_rate": {"distribution": "log_uniform_values", "min": 1.0e-4, "max": 1.0e-2},
    "feature_set": {"values": ["tree_routes", "tree"]},
}


def result(number: int, chosen: tuple[int, float, str], value: float, state: State = State.FINISHED) -> Result:
    return Result(Trial(number, dict(zip(SEARCHED, chosen, strict=True)), state, value), value, 10, 60.0)


RESULTS = [
    result(1, (16, 1e-3, "tree"), -0.1),
    result(0, (64, 1e-4, "tree_routes"), -0.5),
    result(2, (32, 1e-2, "tree"), -0.3, State.STOPPED),
]


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return make_sweep(tmp_path, SEARCHED)


def lines_of(results: list[Result], sweep: Sweep, importances: dict[str, float] | None = None) -> list:
    figure = picture._draw(results, sweep, importances or {})
    return [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) > 2]


def heights(line, n_axes: int = 4) -> list[float]:
    x, y = line.get_data()
    return [float(y[np.flatnonzero(x == n)[0]]) for n in range(n_axes)]


def test_lines_cross_the_axes_where_the_values_are(sweep):
    worst, middle, best = (heights(line) for line in lines_of(RESULTS, sweep))  # the best on top
    spread = picture._SPREAD / 2
    assert worst == pytest.approx([1, 0, 0, 0], abs=1e-9)
    assert middle == pytest.approx([0.5, 1, 1 + spread, 0.5], abs=1e-9)
    assert best == pytest.approx([0, 0.5, 1 - spread, 1], abs=1e-9)


def test_best_and_stopped_trials_can_be_told_apart(sweep):
    worst, stopped, best = lines_of(RESULTS, sweep)
    assert best.get_label() == "trial 1, the best: -0.1000"
    assert best.get_linewidth() > 1.5 * worst.get_linewidth()
    assert stopped.is_dashed()
    assert not worst.is_dashed()


def test_picture_is_written_whole_with_and_without_importances(sweep, tmp_path):
    sizes = []
    for name, importances in (("a", {}), ("b", {"learning_rate": 0.7, "hidden_size": 0.3})):
        path = tmp_path / name / "search.png"
        draw_search(RESULTS, sweep, importances, path)
        with Image.open(path) as image:
            assert image.format == "PNG"
            sizes.append(image.size)
            assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 50
        assert [file.name for file in path.parent.iterdir()] == ["search.png"]
    assert sizes[1][1] > sizes[0][1]


@pytest.mark.parametrize("n", [1, 2])
def test_few_and_equal_trials_are_drawn(sweep, tmp_path, n):
    draw_search([result(i, (16, 1e-3, "tree"), -0.2) for i in range(n)], sweep, {}, tmp_path / "search.png")
    assert (tmp_path / "search.png").stat().st_size > 1000


def test_nothing_to_draw_is_said(sweep, tmp_path):
    failed = Result(Trial(0, {}, State.FAILED), float("nan"), 0, 0.0)
    with pytest.raises(ValueError, match="no trial"):
        draw_search([failed], sweep, {}, tmp_path / "search.png")
