"""The learning curve: what is drawn, from good files and from files that a kill left behind."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from reinforcement_learning.tracking.json_lines_sink import JsonLinesSink
from reinforcement_learning.tracking.learning_curve import draw_learning_curve
from utils.system.files import PROJECT_ROOT


def training_row(episode: int, score: float, epsilon: float = 0.5) -> dict:
    return {
        "episode": episode,
        "training/score": score,
        "training/completion": score + 1.0,
        "training/epsilon": epsilon,
    }


def evaluation_row(episode: int, mean: float, std: float = 0.2, **more: float) -> dict:
    return {
        "episode": episode,
        "evaluation/scores_mean": mean,
        "evaluation/scores_std": std,
        "evaluation/completions_mean": mean + 1.0,
        "evaluation/completions_std": std,
        **{f"evaluation/{name}": value for name, value in more.items()},
    }


def write(path: Path, rows: list[dict], tail: str = "") -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + tail)
    return path


@pytest.fixture
def panels(tmp_path, monkeypatch):
    """Draws a file of these rows, and more text after them; returns the axes of score, completion and epsilon."""
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))

    def axes_of(rows: list[dict], tail: str = "") -> list:
        draw_learning_curve(write(tmp_path / "m.jsonl", rows, tail), tmp_path / "c.png", "title")
        return drawn[-1].axes

    return axes_of


def line_of(axes, label: str):
    (line,) = [line for line in axes.get_lines() if line.get_label().startswith(label)]
    return line


ROWS = [training_row(1, -0.5), training_row(2, -0.4), evaluation_row(2, -0.3), training_row(3, -0.2)]


def test_curves_show_the_rows(panels):
    score, completion, epsilon = panels(ROWS)
    assert line_of(score, "training").get_xydata().tolist() == [[1, -0.5], [2, -0.4], [3, -0.2]]
    assert line_of(score, "evaluation").get_xydata().tolist() == [[2, -0.3]]
    assert line_of(completion, "evaluation").get_xydata().tolist() == [[2, 0.7]]
    assert epsilon.get_lines()[0].get_xydata().tolist() == [[1, 0.5], [2, 0.5], [3, 0.5]]


def test_band_says_what_it_is(panels):
    deviation, _, _ = panels([evaluation_row(10, -0.3), evaluation_row(20, -0.2)])
    assert line_of(deviation, "evaluation").get_label().endswith("standard deviation")
    low, high = deviation.collections[0].get_datalim(deviation.transData).intervaly
    assert (low, high) == pytest.approx((-0.5, 0.0))

    error, _, _ = panels([evaluation_row(e, -0.3, nb_episodes=26) for e in (10, 20)])
    assert line_of(error, "evaluation").get_label().endswith("standard error")
    low, high = error.collections[0].get_datalim(error.transData).intervaly
    assert (low, high) == pytest.approx((-0.3 - 0.04, -0.3 + 0.04))


def test_each_policy_has_its_curves(panels):
    rows = []
    for episode in (10, 20):
        alone = {f"policy_0{p}/evaluation/scores_mean": -0.1 * p - episode / 1000 for p in (0, 1)}
        own_epsilon = {f"policy_0{p}/training/epsilon": 0.5 + 0.1 * p for p in (0, 1)}
        rows += [training_row(episode, -0.5) | own_epsilon, evaluation_row(episode, -0.3) | alone]
    score, _, epsilon = panels(rows)
    lines = [line_of(score, f"policy {p} alone") for p in (0, 1)]
    assert [line.get_xdata().tolist() for line in lines] == [[10, 20]] * 2
    assert np.array([line.get_ydata() for line in lines]) == pytest.approx(np.array([[-0.01, -0.02], [-0.11, -0.12]]))
    assert lines[0].get_color() != lines[1].get_color()
    assert [line.get_color() for line in epsilon.get_lines()] == [line.get_color() for line in lines]
    assert [line.get_ydata().tolist() for line in epsilon.get_lines()] == [[0.5, 0.5], [0.6, 0.6]]


def test_epsilon_falls_smoothly_though_episodes_end_in_another_order(panels):
    started = np.arange(2000).reshape(-1, 8)[:, ::-1].ravel()  # of eight side by side the last one ends first
    _, _, epsilon = panels([training_row(e, -0.1, epsilon=0.998**s) for e, s in enumerate(started.tolist())])
    (line,) = epsilon.get_lines()
    assert len(line.get_xdata()) == 100
    assert (np.diff(line.get_ydata()) < 0).all()


def test_missing_and_null_values_leave_gaps_not_errors(panels):
    rows = [training_row(1, -0.5), {"episode": 2, "training/score": None}, {"episode": 3, "timer/step": 0.1}]
    score, _, _ = panels(rows)
    assert line_of(score, "training").get_xydata().tolist() == [[1, -0.5]]


def test_long_training_is_drawn_as_means(panels):
    score, _, _ = panels([training_row(e, -0.1 - 0.2 * (e % 2)) for e in range(10_000)])
    line = line_of(score, "training")
    assert line.get_xdata() == pytest.approx(np.arange(100) * 100 + 49.5)
    assert line.get_ydata() == pytest.approx(np.full(100, -0.2))


def test_picture_is_written_whole_from_what_the_sink_wrote(tmp_path):
    sink = JsonLinesSink(tmp_path / "metrics.jsonl")
    for row in ROWS:
        sink.log(row["episode"], {name: value for name, value in row.items() if name != "episode"})
    sink.log(4, {"training/score": float("nan")})
    sink.close()
    png = tmp_path / "new" / "curve.png"
    draw_learning_curve(tmp_path / "metrics.jsonl", png, "Test_1")
    with Image.open(png) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape[0] > 500
    assert pixels.shape[1] > 800
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50
    assert [file.name for file in png.parent.iterdir()] == ["curve.png"]


@pytest.mark.parametrize(
    "rows",
    [
        [training_row(1, -0.5)],
        [evaluation_row(1, -0.5)],
        [{"episode": 1}],
        [{"episode": 7, "evaluation/scores_mean": -0.5}],
    ],
    ids=["training only", "evaluation only", "no metric", "no deviation"],
)
def test_sparse_files_are_drawn(tmp_path, rows):
    draw_learning_curve(write(tmp_path / "m.jsonl", rows), tmp_path / "c.png", "title")
    assert (tmp_path / "c.png").stat().st_size > 1000


def test_environments_that_were_added_are_marked(panels):
    added = training_row(2, -0.4) | {"curriculum/Test_$0$": 5.0}
    score, completion, epsilon = panels([ROWS[0], added, *ROWS[2:]])
    for axes in (score, completion, epsilon):
        assert [line.get_xdata() for line in axes.get_lines() if line.get_linestyle() == ":"] == [[2, 2]]
    assert [text.get_text() for text in score.texts] == ["Test_$0$"]
    draw = [axes for axes in panels(ROWS) if axes.texts]
    assert draw == []


def test_torn_and_foreign_lines_are_skipped(panels):
    torn = panels(ROWS, tail='[1]\n"text"\n\x00\n{"training/score": 7}\n{"episode": 4, "training/sco')
    for found, wanted in zip(torn, panels(ROWS), strict=True):
        curves = [[line.get_xydata().tolist() for line in axes.get_lines()] for axes in (found, wanted)]
        assert curves[0] == curves[1] != []


def test_file_without_rows_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"m\.jsonl holds no row"):
        draw_learning_curve(write(tmp_path / "m.jsonl", []), tmp_path / "c.png", "title")
    with pytest.raises(FileNotFoundError):
        draw_learning_curve(tmp_path / "none.jsonl", tmp_path / "c.png", "title")
    assert not (tmp_path / "c.png").exists()


def test_drawing_leaves_pyplot_alone(tmp_path):
    write(tmp_path / "m.jsonl", ROWS)
    code = (
        "import sys; from reinforcement_learning.tracking.learning_curve import draw_learning_curve; import sys;"
        "assert 'matplotlib' not in sys.modules; draw_learning_curve(*sys.argv[1:], 'title');"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "m.jsonl"), str(tmp_path / "c.png")]
    subprocess.run(arguments, cwd=PROJECT_ROOT, check=True)
