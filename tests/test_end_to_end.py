"""The commands of README.md as subprocesses, started from another folder, with few episodes."""

import dataclasses
import errno
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from filelock import FileLock
from matplotlib.figure import Figure

from reinforcement_learning.saving import checkpoint_writer
from reinforcement_learning.saving.checkpointing import read_checkpoint, write_checkpoint
from reinforcement_learning.saving.run_folders import LOCK_FILE
from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.training import summary
from utils.system.files import PROJECT_ROOT

SCRIPTS = PROJECT_ROOT / "reinforcement_learning"
TRAIN = str(SCRIPTS / "multi_agent_training.py")
# What makes a training short; everything else is as shipped, but that mostly no process makes levels ahead.
SHORT = ["-n", "4", "-t", "Tiny", "-e", "Tiny", "--checkpoint_interval", "2", "--n_evaluation_episodes", "2"]
SHORT += ["--hidden_size", "16", "--buffer_size", "2000", "--buffer_min_size", "50", "--batch_size", "16"]
SHORT += ["--level_workers", "0"]
ENDLESS = ["-n", "100000", "--checkpoint_interval", "100000"]
TIMEOUT = 120  # seconds; a training takes about five


def environment(**changes: str) -> dict[str, str]:
    """The environment of a machine on which nothing is configured."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    return kept | {"OMP_NUM_THREADS": "1", **changes}


class Place:
    """A folder in which commands are started and that everything is written below."""

    def __init__(self, base: Path) -> None:
        self.base = base
        base.mkdir(exist_ok=True)
        names = ("checkpoint_dir", "replay_buffer_dir", "output_dir")
        self.folders = [part for name in names for part in (f"--{name}", name)]

    def start(self, *arguments: str, **changes: str) -> subprocess.Popen[str]:
        command = [sys.executable, TRAIN, *arguments, *self.folders]
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            command, cwd=self.base, text=True, env=environment(HOME=str(self.base), **changes), **streams
        )

    def train(self, *arguments: str, code: int = 0, **changes: str) -> tuple[str, str]:
        with self.start(*arguments, **changes) as process:
            out, err = process.communicate(timeout=TIMEOUT)
        assert process.returncode == code, err
        return out, err

    def rows(self) -> list[dict[str, Any]]:
        (path,) = self.base.glob("output_dir/*/metrics.jsonl")
        return [json.loads(line) for line in path.read_text().splitlines()]

    def episodes(self) -> list[int]:
        return [row["episode"] for row in self.rows() if "training/score" in row]

    def checkpoints(self) -> list[Path]:
        return sorted(self.base.glob("checkpoint_dir/*/episode_*.pt"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, str, str]:
    place = Place(tmp_path_factory.mktemp("trained"))
    return place, *place.train(*SHORT, "--level_workers", "1", "--wandb", "False", "--render", "--save_replay_buffer")


class TestTraining:
    def test_writes_what_it_promises(self, trained: tuple[Place, str, str]) -> None:
        place, _, err = trained
        assert "Traceback" not in err
        assert place.episodes() == [1, 2, 3, 4]
        assert [row["episode"] for row in place.rows() if "evaluation/scores_mean" in row] == [0, 2, 4]
        assert [path.name for path in place.checkpoints()] == ["episode_0000002.pt", "episode_0000004.pt"]
        assert torch.load(place.checkpoints()[-1], weights_only=True)["episode"] == 4
        (run,) = place.base.glob("output_dir/*")
        assert (run / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
        assert any((run / "tensorboard").iterdir())
        assert len(list(run.glob("*.gif"))) == 3  # one of the untrained network
        assert len(list(place.base.glob("replay_buffer_dir/*/*.npz"))) == 1

    def test_summary_names_the_files_and_a_next_command_that_works(self, trained: tuple[Place, str, str]) -> None:
        place, out, _ = trained
        summary = out[out.index("Finished after 4 of 4 episodes") :]
        (run,) = place.base.glob("output_dir/*")
        for name in ("metrics.jsonl", "learning_curve.png"):
            assert str(run / name) in summary
        assert str(place.checkpoints()[0].parent) in summary
        (command,) = (line.removeprefix("Next: ") for line in summary.splitlines() if line.startswith("Next: "))
        python, *arguments = shlex.split(command)
        assert python == "python"
        done = run_command([*arguments, "-n", "2"], cwd=Path("/"))
        assert done.returncode == 0, done.stderr
        assert "completion" in done.stdout

    def test_ending_names_the_environment_and_the_rewards_that_were_evaluated(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """``best.pt`` was chosen there, so scoring goes on there, and the curve must say where its marks come from."""
        from reinforcement_learning.multi_agent_training import main

        monkeypatch.chdir(tmp_path)
        titles = []
        save = Figure.savefig
        monkeypatch.setattr(Figure, "savefig", lambda f, *a, **kw: (titles.append(f.get_suptitle()), save(f, *a, **kw)))
        shorter = ["-n", "2", "-e", "Test_0", "--n_evaluation_episodes", "1", "--run_name", "mine", "--wandb=False"]
        assert main([*SHORT, *shorter, "--rewards", "ecml2026", *Place(tmp_path).folders]) == 0
        lines = capfd.readouterr().out.splitlines()
        (command,) = (line for line in lines if line.startswith("Next: "))
        assert shlex.split(command)[-4:] == ["-e", "Test_0", "--rewards", "ecml2026"]
        assert any("rewards ecml2026" in line for line in lines if line.startswith("Run mine: "))
        assert titles == ["mine, evaluated on Test_0"]

    def test_plain_lines_where_there_is_no_terminal(self, trained: tuple[Place, str, str]) -> None:
        _, out, err = trained
        assert "\r" not in out + err
        assert "evaluation at episode 2" in out

    def test_resume_latest_goes_on_to_a_larger_n(self, trained: tuple[Place, str, str], tmp_path: Path) -> None:
        shutil.copytree(trained[0].base, tmp_path, dirs_exist_ok=True)
        place = Place(tmp_path)
        newest = place.checkpoints()[-1]
        content = read_checkpoint(newest)
        content["config"]["level_cache"] = "levels"  # an option that earlier versions had
        write_checkpoint(newest, content)
        out, _ = place.train("--resume", "latest", "-n", "6", "--render=0")
        assert "after episode 4" in out
        assert "Restored" in out
        assert place.episodes() == [1, 2, 3, 4, 5, 6]
        content = read_checkpoint(place.checkpoints()[-1])
        assert (content["episode"], content["config"]["hidden_size"]) == (6, 16)
        sizes = [row["training/buffer_size"] for row in place.rows() if "training/buffer_size" in row]
        assert sizes == sorted(sizes)
        out, _ = place.train("--resume", str(place.checkpoints()[-1]), "-n", "5")
        assert "All 5 episodes are done already" in out
        assert "Finished after 6 of 6 episodes" in out
        (best,) = place.base.glob("checkpoint_dir/*/best.pt")
        before = place.rows()
        out, _ = place.train("--resume", str(best), "-n", "1")
        assert place.rows() == before

    def test_saved_buffer_starts_another_training(self, trained: tuple[Place, str, str], tmp_path: Path) -> None:
        (buffer,) = trained[0].base.glob("replay_buffer_dir/*/*.npz")
        out, _ = Place(tmp_path).train(
            *SHORT, "-n", "1", "--wandb", "no", "--restore_replay_buffer", str(buffer), "--learning_curve=0"
        )
        assert f"transitions from {buffer}" in out


@pytest.mark.parametrize(
    ("number", "code", "num_workers"), [(signal.SIGINT, 130, 0), (signal.SIGTERM, 143, 1), (signal.SIGHUP, 129, 0)]
)
def test_signal_leaves_a_checkpoint_that_the_said_command_resumes(
    tmp_path: Path, number: int, code: int, num_workers: int
) -> None:
    place = Place(tmp_path / "a folder with spaces")
    options = ["--wandb", "False", "--num_workers", str(num_workers), "--level_workers", "1"]
    with place.start(*SHORT, *ENDLESS, *options) as process:
        wait_for(lambda: len(place.episodes()) >= 3 if list(place.base.glob("output_dir/*/metrics.jsonl")) else False)
        children = psutil.Process(process.pid).children()
        assert len(children) == 1 + num_workers  # one makes levels
        process.send_signal(number)
        out, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert not any(child.is_running() for child in children)
    reached = read_checkpoint(place.checkpoints()[-1])["episode"]
    assert reached >= 3
    assert f"tensorboard --logdir {shlex.quote(str(place.base / 'output_dir'))}" in out
    (command,) = (line.removeprefix("To go on: ") for line in out.splitlines() if line.startswith("To go on: "))
    n_episodes = reached + 2
    done = run_command([*shlex.split(command)[1:], "-n", str(n_episodes)], cwd=Path("/"))
    assert done.returncode == 0, done.stderr
    assert place.episodes() == list(range(1, n_episodes + 1))


def test_ctrl_c_before_the_training_begins_is_no_traceback(tmp_path: Path) -> None:
    with Place(tmp_path).start(*SHORT, *ENDLESS, "--wandb", "False") as process:
        wait_for(lambda: any("torch" in mapped.path for mapped in psutil.Process(process.pid).memory_maps()))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode in (-signal.SIGINT, 130)
    assert "Traceback" not in err


def wait_for(condition: Any) -> None:
    """Looks again and again until something has come about."""
    for _ in range(10 * TIMEOUT):
        try:
            if condition():
                return
        except (ValueError, FileNotFoundError):  # a line that is being written
            pass
        time.sleep(0.1)
    pytest.fail("waited in vain")


def run_command(arguments: Sequence[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """A Python command of the project."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_several_policies(tmp_path: Path) -> None:
    place = Place(tmp_path)
    arguments = ["--num_policies", "2", "--with_pbt", "--pbt_start_episodes", "0", "--seed", "1"]
    arguments += ["--pbt_period_episodes", "2", "--wandb=False"]
    arguments += ["--num_workers", "1"]
    out, _ = place.train(*SHORT, *arguments)
    assert "2 policies on cpu" in out
    (run,) = place.base.glob("output_dir/*")
    policy_of_train = [
        json.loads(line)["policy_of_train"] for line in (run / "policy_mapping.jsonl").read_text().splitlines()
    ]
    assert len(policy_of_train) == 4
    assert all(sorted(of_episode) == [0, 1] for of_episode in policy_of_train)  # two trains
    table = json.loads((run / "cross_play.json").read_text())
    assert len(table) == 4
    assert all(line["who"] in out for line in table)
    assert (run / "lineage.png").read_bytes().startswith(b"\x89PNG")
    (checkpoint,) = place.base.glob("checkpoint_dir/*/best.pt")
    assert len(read_checkpoint(checkpoint)["policies"]) == 2


def test_gpu_that_is_not_there_and_wandb_that_is_not_set_up(tmp_path: Path) -> None:
    """Warns of the GPU, trains on the CPU, tracks offline, and asks nobody for a key."""
    out, err = Place(tmp_path).train(*SHORT, "-n", "1", "--use_gpu", "--wandb", "True", WANDB_MODE="offline")
    assert err.count("--use_gpu") == 1
    assert "on cpu" in out
    assert "Finished after 1 of 1" in out
    assert list(tmp_path.glob("output_dir/*/wandb/offline-run-*"))


def test_help_lists_every_option() -> None:
    done = run_command([TRAIN, "--help"], cwd=Path("/"))
    assert done.returncode == 0
    for row in dataclasses.fields(TrainingConfig):
        assert f"--{row.name}" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-t", "17"], "17"),
        (["--gamma", "2"], "--gamma is 2.0"),
        (["--buffer_size", "1e15"], "GB"),
        (["--resume", "missing.pt"], "missing.pt"),
        (["--resume", "latest"], "no complete checkpoint"),
        (["--resume", "."], "is a folder"),
        (["--resume="], "--resume is empty"),
        (["--resume", __file__], "not a checkpoint"),
        (["--restore_replay_buffer", "missing.npz"], "missing.npz"),
        (["--output_dir", f"{__file__}/below"], "--output_dir"),
        (["--level_workers", "-1"], "--level_workers is -1"),
        (["--num_policies", "3", "--policy_mode", "synchronous"], "8 divided by --num_policies 3 leaves 2"),
        (["--num_policies", "2", "--policy_mapping", "mine:rule"], "'mine:rule'"),
        (["--num_policies", "2", "--policy_mapping", "math:isqrt"], "'math:isqrt' failed in episode 0"),
        (["--num_policies", "2", "--num_workers", "1", "--policy_mode", "asynchronous"], "add --async_rl"),
        (["--devices", "cuda:99"], "'cuda:99'"),
        (["--with_pbt"], "--num_policies is 1"),
    ],
)
def test_what_cannot_run_exits_2_with_a_sentence_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    """In this process: the subprocesses above have shown that the exit code arrives."""
    from reinforcement_learning.multi_agent_training import main

    monkeypatch.chdir(tmp_path)
    assert main([*SHORT, "--wandb", "False", *Place(tmp_path).folders, *arguments]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    errors = [line for line in err.splitlines() if not line.startswith("warning: the replay buffer takes")]
    assert len(errors) == 1
    assert words in errors[0]
    assert list(tmp_path.iterdir()) == []


class TestInThisProcess:
    """What a whole training does, without the start of another process."""

    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(tmp_path)
        return tmp_path

    def train(self, *arguments: str) -> int:
        from reinforcement_learning.multi_agent_training import main

        shared = ["--wandb", "False", "--tensorboard", "False", "--run_name", "mine"]
        return main([*SHORT, "-n", "2", *shared, *Place(Path.cwd()).folders, *arguments])

    def test_nothing_saved_is_told_at_the_end(
        self, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(checkpoint_writer, "write_checkpoint", no_room)
        assert self.train() == 1
        out, err = capfd.readouterr()
        assert err.splitlines()[-1].endswith(f"there is no checkpoint in {place}/checkpoint_dir/mine.")
        assert "best.pt" in err
        assert "  checkpoints " not in out

    def test_newest_checkpoint_is_named_where_the_last_is_missing(
        self, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        assert self.train() == 0
        newest = place / "checkpoint_dir" / "mine" / "episode_0000002.pt"
        with monkeypatch.context() as full:
            full.setattr(checkpoint_writer, "write_checkpoint", no_room)
            assert self.train("--resume", str(newest), "-n", "4") == 1
        assert capfd.readouterr().err.splitlines()[-1].endswith(f"the newest checkpoint is {newest}.")
        assert self.train("--resume", str(newest), "-n", "4") == 0

    @pytest.mark.parametrize("function", ["atomic_write", "draw_learning_curve"])
    def test_every_file_that_is_missing_at_the_end_counts(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], function: str
    ) -> None:
        lost = {"atomic_write": "cross_play.json", "draw_learning_curve": "learning_curve.png"}
        monkeypatch.setattr(summary, function, no_room)
        assert self.train("--num_policies", "2") == 1
        last = capfd.readouterr().err.splitlines()[-1]
        assert f"({lost[function]}): the newest checkpoint is" in last

    def test_console_goes_on_where_letters_cannot_be_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shown = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii"))
        assert self.train() == 0
        assert b"evaluation at episode 2: score -" in shown.getvalue()
        assert b" ? " in shown.getvalue()
        assert b"Finished after 2 of 2 episodes" in shown.getvalue()

    def test_name_of_a_training_that_runs_is_refused(self, place: Path, capfd: pytest.CaptureFixture[str]) -> None:
        folder = place / "output_dir" / "mine"
        folder.mkdir(parents=True)
        with FileLock(folder / LOCK_FILE):
            assert self.train() == 2
        assert "--run_name 'mine' is the name of a training that runs now" in capfd.readouterr().err
        assert [path.name for path in place.rglob("*")] == ["output_dir", "mine", LOCK_FILE]


def no_room(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
