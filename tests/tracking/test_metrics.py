"""The metrics writer and its sinks, W&B apart, against real files and real event readers."""

import errno
import io
import math
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reinforcement_learning.tracking.console_sink import ConsoleSink
from reinforcement_learning.tracking.json_lines_sink import JsonLinesSink
from reinforcement_learning.tracking.metrics import MetricsWriter, Sink
from reinforcement_learning.tracking.tensorboard_sink import TensorBoardSink
from utils.system.files import PROJECT_ROOT

EVALUATION = {
    "evaluation/scores_mean": -0.271,
    "evaluation/scores_std": 0.08,
    "evaluation/completions_mean": 0.324,
    "evaluation/completions_std": 0.21,
    "evaluation/nb_steps_mean": 51.4,
    "evaluation/nb_steps_std": 9.0,
    "evaluation/deadlocked": 0.4,
    "evaluation/never_departed": 0.0,
}


class RecordingSink(Sink):
    """Remembers what it got; raises from the named methods."""

    def __init__(self, *failing: str) -> None:
        self.calls: list[tuple] = []
        self._failing = failing

    def _call(self, method: str, *arguments: object) -> None:
        self.calls.append((method, *arguments))
        if method in self._failing:
            raise OSError(28, "No space left on device")

    def log(self, episode, metrics):
        self._call("log", episode, metrics)

    def summary(self, values):
        self._call("summary", values)

    def message(self, text):
        self._call("message", text)

    def picture(self, name, path, episode):
        self._call("picture", name, path, episode)

    def close(self, exit_code):
        self._call("close", exit_code)

    def named(self, method: str) -> list[tuple]:
        return [call[1:] for call in self.calls if call[0] == method]


# ---------------------------------------------------------------------------------------------------------- writer


def test_writer_hands_plain_floats_to_every_sink():
    sinks = [RecordingSink(), RecordingSink()]
    writer = MetricsWriter(sinks)
    writer.log(3, {"training/score": np.float32(-0.5), "training/nb_steps": np.int64(7)})
    writer.summary({"best": np.float64(0.25)})
    writer.message("hello")
    writer.picture("film", "a.gif", 3)
    writer.close(exit_code=2)
    for sink in sinks:
        assert sink.calls == [
            ("log", 3, {"training/score": -0.5, "training/nb_steps": 7.0}),
            ("summary", {"best": 0.25}),
            ("message", "hello"),
            ("picture", "film", Path("a.gif"), 3),
            ("close", 2),
        ]
        assert all(type(value) is float for value in sink.calls[0][2].values())


def test_value_that_is_no_number_is_the_callers_error():
    sink = RecordingSink()
    with pytest.raises(ValueError, match="could not convert"):
        MetricsWriter([sink]).log(0, {"training/score": "high"})
    assert sink.calls == []


@pytest.mark.parametrize("method", ["log", "summary", "picture"])
def test_failing_sink_is_reported_once_and_dropped(method, capsys):
    broken, sound = RecordingSink(method, "close"), RecordingSink()
    writer = MetricsWriter([broken, sound])
    for episode in range(3):
        writer.log(episode, {"a": 1.0})
        writer.summary({"a": 1.0})
        writer.picture("film", "a.gif", episode)
    writer.close()
    assert capsys.readouterr().err.count("RecordingSink failed and is switched off: OSError") == 1
    assert len(broken.named(method)) == 1
    assert len(broken.named("close")) == 1, "a dropped sink is still closed, once"
    assert len(sound.named(method)) == 3


def test_warning_about_a_sink_goes_through_the_console(capsys):
    writer = MetricsWriter([RecordingSink("log"), ConsoleSink(10)])
    writer.log(1, {"training/score": 0.0})
    writer.close()
    captured = capsys.readouterr()
    assert "warning: RecordingSink failed" in captured.out
    assert captured.err == ""


def test_close_happens_once_and_knows_how_the_block_ended():
    sink = RecordingSink()
    writer = MetricsWriter([sink])
    with pytest.raises(KeyError), writer:
        raise KeyError("boom")
    writer.close()
    assert sink.named("close") == [(1,)]
    for code, expected in ((0, 0), (2, 1)):
        sink = RecordingSink()
        with pytest.raises(SystemExit), MetricsWriter([sink]):
            sys.exit(code)
        assert sink.named("close") == [(expected,)]
    sink = RecordingSink()
    with MetricsWriter([sink]):
        pass
    assert sink.named("close") == [(0,)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_does_not_stop_training(capsys, tmp_path):
    other = JsonLinesSink(tmp_path / "metrics.jsonl")
    full = JsonLinesSink("/dev/full")
    writer = MetricsWriter([full, other])
    for episode in range(3):
        writer.log(episode, {"a": 1.0})
    writer.close()
    assert capsys.readouterr().err.count("No space left") == 1
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3
    assert writer.unsaved == ["metrics.jsonl"]


def test_only_what_should_have_kept_something_counts_as_lost(capsys):
    writer = MetricsWriter([RecordingSink("log"), ConsoleSink(10)])
    writer.log(1, {"training/score": 0.0})
    assert writer.unsaved == []


@pytest.mark.parametrize("name", ["metrics", "console_sink", "json_lines_sink", "tensorboard_sink", "wandb_sink"])
def test_importing_a_sink_imports_neither_wandb_nor_torch(name):
    module = f"reinforcement_learning.tracking.{name}"
    code = f"import sys, {module}; print(*({{'wandb', 'torch', 'tensorboard'}} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


# ----------------------------------------------------------------------------------------------------- TensorBoard


def read_scalars(directory: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    accumulator = EventAccumulator(str(directory), size_guidance={TENSORS: 0}, purge_orphaned_data=True)
    accumulator.Reload()
    scalars = {tag: [(e.step, e.value) for e in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]}
    for tag in accumulator.Tags()["tensors"]:
        scalars[tag] = [(e.step, float(make_ndarray(e.tensor_proto))) for e in accumulator.Tensors(tag)]
    return scalars


def test_tensorboard_gets_finite_values_by_episode(tmp_path):
    sink = TensorBoardSink(tmp_path)
    sink.log(1, {"training/score": -0.5, "training/loss": math.nan})
    sink.log(2, {"training/score": -0.25, "training/loss": 3.0})
    sink.log(2, EVALUATION)
    sink.close()
    scalars = read_scalars(tmp_path)
    assert scalars["training/score"] == [(1, -0.5), (2, -0.25)]
    assert scalars["training/loss"] == [(2, 3.0)]
    assert scalars["evaluation/scores_mean"] == [(2, pytest.approx(-0.271))]


def test_tensorboard_evaluations_are_visible_during_training(tmp_path):
    sink = TensorBoardSink(tmp_path)
    sink.log(2, EVALUATION)
    assert "evaluation/scores_mean" in read_scalars(tmp_path)
    sink.close()


def test_tensorboard_resume_shows_nothing_twice(tmp_path):
    sink = TensorBoardSink(tmp_path)
    for episode in range(1, 6):
        sink.log(episode, {"a": float(episode)})
    sink.close()
    sink = TensorBoardSink(tmp_path, resume_episode=3)
    for episode in range(4, 8):
        sink.log(episode, {"a": 10.0 * episode})
    sink.close()
    assert read_scalars(tmp_path)["a"] == [(1, 1), (2, 2), (3, 3), (4, 40), (5, 50), (6, 60), (7, 70)]


def test_tensorboard_resumed_without_a_row_hides_nothing(tmp_path):
    sink = TensorBoardSink(tmp_path)
    for episode in range(1, 6):
        sink.log(episode, {"a": float(episode)})
    sink.close()
    TensorBoardSink(tmp_path, resume_episode=3).close()
    assert read_scalars(tmp_path)["a"] == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]


def test_tensorboard_on_a_full_disk_is_switched_off_with_one_line(tmp_path, capfd, monkeypatch):
    from tensorboard.summary.writer.record_writer import RecordWriter

    writer = MetricsWriter([TensorBoardSink(tmp_path)])

    def no_room(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(RecordWriter, "write", no_room)
    for episode in range(1000):
        writer.log(episode, EVALUATION)
    writer.close()
    (line,) = capfd.readouterr().err.splitlines()
    assert "TensorBoardSink" in line
    assert "No space left" in line


def test_tensorboard_shows_films(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    film = tmp_path / "film.gif"
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    frames[0].save(film, save_all=True, append_images=frames[1:])
    sink = TensorBoardSink(tmp_path / "events")
    sink.picture("evaluation/film", film, 4)
    sink.close()
    accumulator = EventAccumulator(str(tmp_path / "events"))
    accumulator.Reload()
    assert accumulator.Tags()["images"] == ["evaluation/film"]
    (event,) = accumulator.Images("evaluation/film")
    assert (event.step, event.width, event.height) == (4, 8, 6)
    assert event.encoded_image_string == film.read_bytes()


# --------------------------------------------------------------------------------------------------------- console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


TRAINING = {
    "training/score": -0.312,
    "training/smoothed_score": -0.9,
    "training/completion": 0.412,
    "training/smoothed_completion": 0.1,
    "training/epsilon": 0.11,
}


def test_console_without_terminal_prints_few_lines(capsys, monkeypatch):
    monkeypatch.setattr("reinforcement_learning.tracking.console_sink.time.monotonic", lambda: 100.0)
    sink = ConsoleSink(total_episodes=1000)
    for episode in range(1, 1001):
        sink.log(episode, TRAINING)
    sink.close()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("episode 1000/1000: score -0.312, completion 41.2%, epsilon 0.110, ")
    assert line.endswith("episodes/s")


def test_console_lines_tell_rate_and_remaining_time(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("reinforcement_learning.tracking.console_sink.time.monotonic", lambda: now[0])
    sink = ConsoleSink(total_episodes=1000, start_episode=400)
    for episode in range(401, 501):
        now[0] += 0.5
        sink.log(episode, TRAINING)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["episode 440/1000", "episode 480/1000"]
    assert lines[0].endswith("2.0 episodes/s, 4:40 left")


@pytest.mark.parametrize("terminal", [False, True])
def test_what_comes_before_the_first_episode_does_not_count_for_the_rate(capsys, monkeypatch, terminal):
    now = [100.0]
    monkeypatch.setattr("reinforcement_learning.tracking.console_sink.time.monotonic", lambda: now[0])
    monkeypatch.setattr("reinforcement_learning.tracking.console_sink._is_terminal", lambda _: terminal)
    sink = ConsoleSink(total_episodes=1000)
    if terminal:
        sink._bar._time = lambda: now[0]
        sink._bar.start_t = sink._bar.last_print_t = now[0]
    now[0] += 60.0  # compiling
    sink.log(0, EVALUATION)
    for episode in range(1, 41):
        now[0] += 0.5
        sink.log(episode, TRAINING)
    if terminal:
        assert sink._bar.format_dict["elapsed"] == 20.0
    else:
        assert capsys.readouterr().out.splitlines()[1].endswith("2.0 episodes/s, 8:00 left")
    sink.close()


def test_console_tells_the_means_of_the_last_episodes(capsys, monkeypatch):
    monkeypatch.setattr("reinforcement_learning.tracking.console_sink.time.monotonic", lambda: 100.0)
    sink = ConsoleSink(total_episodes=60)
    for episode in range(1, 61):
        score = {"training/score": -0.9 if episode <= 10 else -0.2 - 0.1 * (episode % 2)}
        sink.log(episode, {**score, "training/completion": 0.5, "training/epsilon": 1.0 / episode})
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("episode 60/60: score -0.250, completion 50.0%, epsilon 0.017, ")


def test_console_always_prints_evaluations_and_messages(capsys):
    sink = ConsoleSink(total_episodes=1000)
    sink.log(50, EVALUATION)
    sink.message("checkpoint written")
    sink.picture("film", Path("film.gif"), 50)
    assert capsys.readouterr().out.splitlines() == [
        "evaluation at episode 50: score -0.271 ± 0.080, completion 32.4% ± 21.0%, steps 51.4 ± 9.0, deadlocked 40.0%, "
        "never departed 0.0%",
        "checkpoint written",
        "film of episode 50: film.gif",
    ]


def test_console_keeps_its_bar_where_there_is_no_standard_output(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", None)
    sink = ConsoleSink(total_episodes=10)
    sink.message("nobody reads this")
    sink.log(6, TRAINING)
    sink.close()
    assert "6/10" in terminal.getvalue()
    assert "nobody" not in terminal.getvalue()


def test_console_with_terminal_keeps_a_bar_and_prints_above_it(capsys, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    sink = ConsoleSink(total_episodes=10, start_episode=5)
    sink.log(6, TRAINING)
    sink.log(6, EVALUATION)
    for episode in range(7, 11):
        sink.log(episode, TRAINING)
    sink.close()
    bar = terminal.getvalue()
    assert "10/10" in bar
    assert "score -0.312, completion 41.2%, epsilon 0.110" in bar
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("evaluation at episode 6: score -0.271")


@pytest.mark.parametrize(("columns", "has_bar"), [(80, True), (0, False)])
def test_console_has_a_bar_where_the_terminal_has_a_width(capsys, monkeypatch, columns, has_bar):
    pty, fcntl, termios = (pytest.importorskip(name) for name in ("pty", "fcntl", "termios"))
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        sink = ConsoleSink(total_episodes=1)
        sink.log(1, TRAINING)
        sink.close()
    os.close(leader)
    assert ("episode 1/1" in capsys.readouterr().out) is not has_bar


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_console_works_without_a_standard_error(monkeypatch, capsys, stream):
    if stream is not None:
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    sink = ConsoleSink(total_episodes=1)
    sink.log(1, TRAINING)
    sink.close()
    assert capsys.readouterr().out.startswith("episode 1/1")
