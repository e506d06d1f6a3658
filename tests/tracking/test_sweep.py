"""sweep.yaml with the real wandb client: the sweep is created, its agent trains, and the metric arrives."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from reinforcement_learning.saving.checkpointing import read_checkpoint
from reinforcement_learning.settings.command_line import given_options
from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.settings.run_config import make_config
from tests.helpers.wandb_server import ENTITY, SWEEP, WandbServer
from utils.system.files import PROJECT_ROOT

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
    """A sweep of two short runs by two agents at the same time, from ``wandb sweep`` to the end of ``wandb agent``."""

    def __init__(self, folder: Path, sweep: dict[str, Any]) -> None:
        self.folder = folder
        # two episodes instead of 2000, the rest as shipped; the trainings write below the folder
        fixed = {"n_episodes": 2, "evaluation_env_config": "Tiny", "n_evaluation_episodes": 2, "level_workers": 0}
        fixed |= {"checkpoint_interval": 1, "action_mask": True, "tensorboard": False}
        fixed |= {name: str(folder / name) for name in ("checkpoint_dir", "replay_buffer_dir", "output_dir")}
        parameters = sweep["parameters"] | {name: {"values": [value]} for name, value in fixed.items()}
        (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep | {"parameters": parameters}))
        (folder / "reinforcement_learning").symlink_to(PROJECT_ROOT / "reinforcement_learning")
        name = f"{ENTITY}/{TrainingConfig.wandb_project}/{SWEEP}"
        with WandbServer(n_runs=2) as self.server:
            (self.created,) = self._wandb(["sweep", "sweep.yaml"])
            self.agents = self._wandb(*[["agent", "--count", "1", name]] * 2)

    def _wandb(self, *commands: list[str]) -> list[str]:
        """What wandb's commands say, given a key and the stand-in, and no terminal; all run at the same time."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_") and "proxy" not in k.lower()}
        clean.update(HOME=str(self.folder), NETRC=str(self.folder / "netrc"))
        clean.update(WANDB_API_KEY="0123456789" * 4, WANDB_BASE_URL=self.server.url)
        bin_folder = str(Path(sys.executable).parent)  # agents start the python of PATH
        clean["PATH"] = os.pathsep.join([bin_folder, clean.get("PATH", "")])
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "wandb", *arguments],
                cwd=self.folder,
                env=clean,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for arguments in commands
        ]
        try:
            said = [process.communicate(timeout=TIMEOUT)[0] for process in processes]
        finally:
            for process in processes:
                process.kill()
        assert [process.returncode for process in processes] == [0] * len(processes), said
        return said


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, sweep: dict[str, Any]) -> Searched:
    return Searched(tmp_path_factory.mktemp("sweep"), sweep)


def test_sweep_is_created_in_the_project_of_the_trainings(searched: Searched) -> None:
    assert f"wandb agent {ENTITY}/{TrainingConfig.wandb_project}/{SWEEP}" in searched.created
    assert searched.server.config["metric"] == {"name": METRIC, "goal": "maximize"}


def test_each_agent_trains_one_configuration_which_ends_with_0(searched: Searched) -> None:
    assert searched.server.handed_out == ["run0", "run1"]
    started = "reinforcement_learning/multi_agent_training.py --action_mask=True --batch_size="
    assert sorted(said[said.index(started) + len(started) :][:2] for said in searched.agents) == ["16", "32"]
    # the server's word for it, as `wandb agent` itself exits 0 whatever the training did
    assert searched.server.exit_codes == {"run0": 0, "run1": 0}
    assert not any("Traceback" in said or "Training goes on without it" in said for said in searched.agents)


def test_runs_have_names_and_tags(searched: Searched) -> None:
    runs = [searched.server.runs[run_id] for run_id in ("run0", "run1")]
    assert [run["displayName"].split("-")[0] for run in runs] == ["Test_0", "Test_1"]
    assert all(run["displayName"].split("-")[0] in run["tags"] for run in runs)
    assert len({run["displayName"] for run in runs}) == 2
    assert ['"batch_size":{"value":16}' in run["config"] for run in runs] == [True, False]


@pytest.mark.parametrize("run_id", ["run0", "run1"])
def test_metric_arrives_against_its_episode_and_as_a_plain_number(searched: Searched, run_id: str) -> None:
    rows = [row for row in searched.server.history[run_id] if METRIC in row]
    assert [row["episode"] for row in rows] == [0, 1, 2]
    summary = searched.server.summary[run_id]
    assert summary[METRIC] == rows[-1][METRIC]
    assert summary[f"{METRIC}_best"] == max(row[METRIC] for row in rows)


def test_values_of_the_sweep_are_what_was_trained_with(searched: Searched, sweep: dict[str, Any]) -> None:
    checkpoints = sorted(searched.folder.glob("checkpoint_dir/*/best.pt"))  # by environment, the first value first
    assert len(checkpoints) == 2
    for i, checkpoint in enumerate(checkpoints):
        config = read_checkpoint(checkpoint)["config"]
        for name in ("hidden_size", "buffer_size", "batch_size"):
            assert config[name] == sweep["parameters"][name]["values"][i]
        assert config["num_threads"] == 1
