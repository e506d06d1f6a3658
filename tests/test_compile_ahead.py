"""What is compiled by two processes is all that a training plays with."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from utils import compile_ahead
from utils.observation.feature_sets import get_feature_set
from utils.system.files import PROJECT_ROOT

START = """
import sys
import psutil
from utils.compile_ahead import CompileAhead

ahead = CompileAhead()
ahead.start()
ahead.start_planner()
print(len(psutil.Process().children()), "started")
"""
TRAIN = """
from pathlib import Path
from numba.core import event
from tests.helpers.tiny_training import make_trainer
from utils.observation.feature_sets import get_feature_set

class Names(event.Listener):
    def on_start(self, event):
        print(event.data["dispatcher"].py_func.__name__)
    def on_end(self, event):
        pass

ahead.finish(get_feature_set("tree_plan"), safe_moves=True, say=lambda text: print("said"))
event.register("numba:compile", Names())
trainer, _ = make_trainer(
    Path(sys.argv[1]), n_episodes=3, num_envs=2, feature_set="tree_plan", safe_moves=True, demonstrations=1.0
)
trainer.run()
print("episodes", trainer.episode)
"""


def said_by(script: str, folder: Path, cache: Path) -> list[str]:
    environment = os.environ | {"PYTHONPATH": str(PROJECT_ROOT), "NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", script, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout.split()


def test_nothing_is_left_to_compile_and_the_second_time_nothing_is_started(tmp_path: Path) -> None:
    said = said_by(START + TRAIN, tmp_path / "training", tmp_path / "cache")
    assert said == ["2", "started", "said", "episodes", "3"]
    assert said_by(START, tmp_path, tmp_path / "cache") == ["0", "started"]


@pytest.mark.parametrize(
    ("feature_set", "safe_moves", "plans", "started", "waited"),
    [
        ("tree_plan", True, True, ["safe moves", "planner"], ["safe moves", "planner"]),
        ("tree_routes", True, False, ["safe moves"], ["safe moves"]),
        ("tree_routes", False, False, ["safe moves"], ["safe moves"]),  # the routes go by them
        ("tree", False, False, ["safe moves"], []),
        ("tree", False, True, ["safe moves", "planner"], ["planner"]),
    ],
)
def test_only_what_is_played_with_is_compiled_and_waited_for(
    feature_set: str,
    safe_moves: bool,
    plans: bool,
    started: list[str],
    waited: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[str] = []
    waited_for: list[str] = []
    say: list[str] = []

    class Child:
        def __init__(self, module: str, on_message: object) -> None: ...

        def send(self, message: bytes) -> None:
            part = message.decode()
            sent.append(part)
            monkeypatch.setattr(ahead._done[part], "wait", lambda seconds: waited_for.append(part))

        def end(self) -> None: ...

    monkeypatch.setattr(compile_ahead, "ChildProcess", Child)
    monkeypatch.setattr(compile_ahead, "_is_needed", lambda: True)
    monkeypatch.setattr(compile_ahead, "_compile_the_rest", lambda feature_set: None)
    ahead = compile_ahead.CompileAhead()
    ahead.start()
    if plans:
        ahead.start_planner()
    ahead.finish(get_feature_set(feature_set), safe_moves=safe_moves, say=say.append)
    assert (sent, waited_for) == (started, waited)
    assert ("planner" in say[0]) == plans


def test_ctrl_c_does_not_wait_until_all_is_compiled(tmp_path: Path) -> None:
    folders = [f"--{name}={tmp_path / name}" for name in ("checkpoint_dir", "output_dir", "replay_buffer_dir")]
    options = ["-n", "10", "-t", "Tiny", "-e", "Tiny", "--wandb", "False", "--tensorboard", "False", *folders]
    command = [sys.executable, str(PROJECT_ROOT / "reinforcement_learning" / "multi_agent_training.py"), *options]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as training:
        assert training.stdout is not None
        while "compiling" not in training.stdout.readline():
            assert training.poll() is None
        training.send_signal(signal.SIGINT)
        said, _ = training.communicate(timeout=300)
    assert training.returncode == 130
    assert said.strip() == "multi_agent_training.py: interrupted before the training began."
