"""sweep.yaml with the real wandb client: the sweep is created, its agent trains, and the metric arrives."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb_server import ENTITY, SWEEP, WandbServer

from reinforcement_learning.checkpointing import read_checkpoint
from reinforcement_learning.config import PROJECT_ROOT, TrainingConfig, given_options, make_config

SWEEP_FILE = PROJECT_ROOT / "sweep.yaml"
METRIC = "evaluation/smoothed_score"
TIMEOUT = 180  # seconds; an agent needs about fifteen, of which it sleeps ten


@pytest.fixture(scope="module")
def sweep() -> dict[str, Any]:
    return yaml.safe_load(SWEEP_FILE.read_text())


def test_file_says_what_is_searched_and_for_what(sweep: dict[str, Any]) -> None:
    assert sweep == {
        "program": "reinforcement_learning/multi_agent_training.py",
        "project": TrainingConfig.wandb_project,
        "method": "bayes",
        "metric": {"name": METRIC, "goal": "maximize"},
        "parameters": {
            "n_episodes": {"values": [2000]},
            "hidden_size": {"values": [128, 256, 512]},
            "buffer_size": {"values": [50_000, 100_000, 500_000, 1_000_000]},
            "batch_size": {"values": [16, 32, 64, 128]},
            "training_env_config": {"values": [0, 1, 2]},
        },
    }
    assert (PROJECT_ROOT / sweep["program"]).is_file()


def test_every_value_is_accepted_in_the_form_that_agents_give_it(sweep: dict[str, Any]) -> None:
    for name, parameter in sweep["parameters"].items():
        for value in parameter["values"]:
            config = make_config(given_options([f"--{name}={value}"]))
            assert str(getattr(config, name)) == str(value)


class Searched:
    """A sweep of one short run, from ``wandb sweep`` to the end of ``wandb agent``."""

    def __init__(self, folder: Path, sweep: dict[str, Any]) -> None:
        self.folder = folder
        # two episodes instead of 2000, the rest as shipped; the trainings write below the folder
        fixed = {"n_episodes": 2, "evaluation_env_config": "Tiny", "n_evaluation_episodes": 2, "level_workers": 0}
        fixed |= {"checkpoint_interval": 1, "action_mask": True, "tensorboard": False}
        fixed |= {name: str(folder / name) for name in ("checkpoint_dir", "replay_buffer_dir", "output_dir")}
        parameters = sweep["parameters"] | {name: {"values": [value]} for name, value in fixed.items()}
        (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep | {"parameters": parameters}))
        (folder / "reinforcement_learning").symlink_to(PROJECT_ROOT / "reinforcement_learning")
        with WandbServer() as self.server:
            self.created = self._wandb("sweep", "sweep.yaml")
            self.agent = self._wandb("agent", "--count", "1", f"{ENTITY}/{TrainingConfig.wandb_project}/{SWEEP}")

    def _wandb(self, *arguments: str) -> str:
        """What a wandb command says, given a key and the stand-in, and no terminal."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_") and "proxy" not in k.lower()}
        clean.update(HOME=str(self.folder), NETRC=str(self.folder / "netrc"), OMP_NUM_THREADS="1")
        clean.update(WANDB_API_KEY="0123456789" * 4, WANDB_BASE_URL=self.server.url)
        bin_folder = str(Path(sys.executable).parent)  # agents start the python of PATH
        clean["PATH"] = os.pathsep.join([bin_folder, clean.get("PATH", "")])
        done = subprocess.run(
            [sys.executable, "-m", "wandb", *arguments],
            cwd=self.folder,
            env=clean,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, sweep: dict[str, Any]) -> Searched:
    return Searched(tmp_path_factory.mktemp("sweep"), sweep)


def test_sweep_is_created_in_the_project_of_the_trainings(searched: Searched) -> None:
    assert f"wandb agent {ENTITY}/{TrainingConfig.wandb_project}/{SWEEP}" in searched.created
    assert searched.server.config["metric"] == {"name": METRIC, "goal": "maximize"}


def test_agent_starts_the_training_which_ends_with_0(searched: Searched) -> None:
    (run_id,) = searched.server.handed_out
    assert "reinforcement_learning/multi_agent_training.py --action_mask=True --batch_size=16" in searched.agent
    # the server's word for it, as `wandb agent` itself exits 0 whatever the training did
    assert searched.server.exit_codes == [0]
    assert "Traceback" not in searched.agent
    assert "Training goes on without it" not in searched.agent
    run = searched.server.runs[run_id]
    assert run["displayName"].startswith("Test_0-seed0-")
    assert "Test_0" in run["tags"]
    assert '"batch_size":{"value":16}' in run["config"]


def test_metric_arrives_against_its_episode_and_as_a_plain_number(searched: Searched) -> None:
    rows = [row for row in searched.server.history if METRIC in row]
    assert [row["episode"] for row in rows] == [1, 2]
    assert searched.server.summary[METRIC] == rows[-1][METRIC]
    assert searched.server.summary[f"{METRIC}_best"] == max(row[METRIC] for row in rows)


def test_values_of_the_sweep_are_what_was_trained_with(searched: Searched, sweep: dict[str, Any]) -> None:
    (checkpoint,) = searched.folder.glob("checkpoint_dir/*/best.pt")
    config = read_checkpoint(checkpoint)["config"]
    for name in ("hidden_size", "buffer_size", "batch_size"):
        assert config[name] == sweep["parameters"][name]["values"][0]
    assert config["num_threads"] == 1
