"""What cannot be used is said in one sentence, before anything is trained; and how Ray is left when a training ends."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from reinforcement_learning.distributed.session import RaySession
from reinforcement_learning.settings.config import ConfigError, TrainingConfig
from utils.system.files import PROJECT_ROOT

SECONDS = 300  # for what takes five on a machine that is not busy
HAS_RAY = importlib.util.find_spec("ray") is not None
TINY = (
    "-n 100000 -t Tiny -e Tiny --hidden_size 16 --buffer_size 500 --buffer_min_size 32 --batch_size 16 --num_envs 2 "
    "--level_workers 0 --wandb False --tensorboard False --learning_curve False"
)
needs_ray = pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed: pip install -r requirements-ray.txt")


def test_without_ray_the_sentence_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else find_spec(name))
    with pytest.raises(ConfigError, match=r"not installed: pip install -r requirements-ray\.txt\.$"):
        RaySession(TrainingConfig(async_rl=True))


@needs_ray
@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:1", r"--ray_address 127\.0\.0\.1:1: no Ray cluster answers \(.*refused\)\.$"),
        ("10.0.0.5", "must be auto or the host:port"),
        ("ray://10.0.0.5:10001", "must be auto or the host:port"),
        ("auto", "--ray_address auto: no Ray cluster answers"),
    ],
)
def test_address_where_no_cluster_answers(address: str, words: str) -> None:
    with (
        pytest.raises(ConfigError, match=words) as error_info,
        RaySession(TrainingConfig(async_rl=True, ray_address=address)),
    ):
        pass
    assert "\n" not in str(error_info.value)


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    script = PROJECT_ROOT / "reinforcement_learning" / "multi_agent_training.py"
    folders = {name: str(folder / name) for name in ("checkpoint_dir", "replay_buffer_dir", "output_dir")}
    options = [part for name, value in folders.items() for part in (f"--{name}", value)]
    command = [sys.executable, str(script), *options, *arguments]
    # a group of its own, as a terminal gives it
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0
    )


def episodes_so_far(folder: Path) -> int:
    rows = [line for path in folder.glob("output_dir/*/metrics.jsonl") for line in path.read_text().splitlines()]
    return json.loads(rows[-1])["episode"] if rows else 0


def wait_for_episode(folder: Path, episode: int, process: "subprocess.Popen[str]") -> None:
    end = time.monotonic() + SECONDS
    while episodes_so_far(folder) < episode:
        assert process.poll() is None, process.stdout and process.stdout.read()
        assert time.monotonic() < end
        time.sleep(0.1)


def left_over(processes: list[psutil.Process]) -> list[Any]:
    _, alive = psutil.wait_procs(processes, timeout=SECONDS)
    return [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


@needs_ray
def test_interrupted_and_resumed_from_the_command_line(tmp_path: Path) -> None:
    """Ctrl-C in a terminal, which all processes get; then a batch system's SIGTERM, which one gets."""
    arguments, reached = [*TINY.split(), "--async_rl"], 0
    for number in (signal.SIGINT, signal.SIGTERM):
        process = start(tmp_path, *arguments)
        try:
            wait_for_episode(tmp_path, reached + 3, process)
            children = psutil.Process(process.pid).children(recursive=True)
            assert any("HostedLearner" in child.name() for child in children)
            if number == signal.SIGINT:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
            said, _ = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
        assert left_over(children) == []
        assert process.returncode == 128 + number, said
        assert "Traceback" not in said
        assert "on cpu, on a Ray of its own with rollout actors: 1." in said
        reached = episodes_so_far(tmp_path)
        (newest,) = [path for path in tmp_path.glob("checkpoint_dir/*/*.pt") if path.stem == f"episode_{reached:07d}"]
        arguments = ["--resume", str(newest)]


@needs_ray
def test_where_ray_ends_a_checkpoint_is_saved(tmp_path: Path) -> None:
    process = start(tmp_path, *TINY.split(), "--async_rl")
    try:
        wait_for_episode(tmp_path, 3, process)
        children = {child: child.name() for child in psutil.Process(process.pid).children(recursive=True)}
        (of_ray,) = (child for child in children if children[child] == "raylet")
        of_ray.kill()
        said, _ = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert process.returncode == 1, said
    assert "Traceback" not in said
    ending = "error: Ray has ended on this machine: its process raylet is gone. A checkpoint was saved."
    assert ending in said
    # two agents of Ray stay for a minute
    assert left_over([child for child in children if not children[child].endswith("Agent")]) == []
    assert list(tmp_path.glob("checkpoint_dir/*/episode_*.pt"))


@needs_ray
def test_network_that_breaks_in_an_actor_is_told_in_one_sentence(tmp_path: Path) -> None:
    options = "-n 100 -t Tiny -e Tiny --num_envs 2 --async_rl --wandb False --tensorboard False --feature_set tree"
    process = start(tmp_path, *options.split(), "--network", "tests.helpers.own_code:BreaksElsewhere")
    try:
        said, _ = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert process.returncode == 2, said
    assert "Traceback" not in said
    assert "ray::" not in said
    assert said.splitlines()[-1].endswith("A checkpoint was saved.")
    assert list(tmp_path.glob("checkpoint_dir/*/episode_*.pt"))


def _name_of(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:  # it has ended meanwhile
        return ""


@needs_ray
def test_killed_it_leaves_nobody_behind() -> None:
    """SIGKILL; what the actor does makes no difference to Ray, two agents of which stay for a minute."""
    script = """
import time
from reinforcement_learning.distributed.session import RaySession, import_ray
from reinforcement_learning.settings.config import TrainingConfig

class Busy:
    def ready(self):
        pass
    def work(self):
        time.sleep(1000)

ray = import_ray()
with RaySession(TrainingConfig(async_rl=True)):
    actor = ray.remote(Busy).remote()
    ray.get(actor.ready.remote())
    actor.work.remote()
    print(flush=True)
    input()
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(
        command, cwd=PROJECT_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "\n"
        names: list[str] = []
        while not {"raylet", "ray::Busy.work"} <= set(names):  # the actor begins some time after it was asked
            assert process.poll() is None
            children = psutil.Process(process.pid).children(recursive=True)
            names = [_name_of(child) for child in children]
        process.kill()
    assert left_over([child for child, name in zip(children, names, strict=True) if not name.endswith("Agent")]) == []


@needs_ray
def test_without_an_address_it_starts_a_ray_of_its_own_whatever_else_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # where Ray would look for a cluster if it were not told
    with RaySession(TrainingConfig(async_rl=True)) as n_gpus:
        assert n_gpus == 0
