"""The command that scores policies: numbers, files, and one sentence for each mistake."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from flatland.envs.persistence import RailEnvPersister
from PIL import Image

from reinforcement_learning import evaluate_agent
from reinforcement_learning.evaluate_agent import main
from reinforcement_learning.saving.checkpointing import BEST, read_checkpoint, write_checkpoint
from reinforcement_learning.scoring import scoring
from reinforcement_learning.scoring.heuristics import ShortestPath
from reinforcement_learning.scoring.play_by_rule import play_by_rule
from reinforcement_learning.scoring.score_table import Played
from reinforcement_learning.scoring.scoring import Task
from tests.helpers.sampled_levels import describe, save_map
from tests.helpers.tiny_training import make_trainer
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.pictures import rendering, time_distance
from utils.pictures.colours import policy_colour
from utils.pictures.time_distance import Diagram
from utils.simulator.simulator import FlatlandSimulator
from utils.system.files import PROJECT_ROOT
from utils.system.seeds import MAX_USER_SEED

TINY = ["-e", "Tiny", "-n", "4"]
CLOCKS = ("seconds_per_step", "seconds_per_level")


def scored(tmp_path: Path, *arguments: str) -> list[dict[str, Any]]:
    """The rows that a command writes, without the clock."""
    path = tmp_path / "made" / "results.json"
    assert main([*arguments, "--json", str(path)]) == 0
    rows = json.loads(path.read_text())
    for row in rows:
        for clock in CLOCKS:
            assert row.pop(clock) > 0
    return rows


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    trainer, _ = make_trainer(tmp_path_factory.mktemp("training"), n_episodes=6)
    trainer.run()
    return trainer.folders.checkpoints / BEST


def test_a_row_for_each_level_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "levels"
    folder.mkdir()
    for name, config in (("a", "Tiny"), ("b", "Test_0")):
        RailEnvPersister.save(make_rail_env(ENV_CONFIGS[config], 1), folder / f"{name}.pkl")
    for given in (str(folder), str(folder / "*.pkl")):
        rows = scored(tmp_path, "--policy", "least_detour", "-n", "2", "-e", given, "--num_workers", "2")
        assert [(row["config"], row["episodes"]) for row in rows] == [("a", 2), ("b", 2)]
        assert "b, 2 levels, seeds 1000 to 1001" in capsys.readouterr().out
        for row in rows:
            path = str(folder / f"{row['config']}.pkl")
            assert scored(tmp_path, "--policy", "least_detour", "-n", "2", "-e", path) == [row]


def test_new_levels_on_a_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_map(tmp_path)
    policies = ["--policy", "least_detour", "--policy", "shortest_path"]
    command = [*policies, "--rewards", "ecml2026", "-n", "2"]
    (row, other) = scored(tmp_path, *command, "-e", str(describe(tmp_path)), "--render", str(tmp_path / "film.gif"))
    assert row["config"] == other["config"] == "levels"
    assert row["losses_mean"]["stop_not_served"] > 0
    assert (tmp_path / "film.gif").exists()
    capsys.readouterr()
    assert main([*command, "-e", str(describe(tmp_path, scene="north"))]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "evaluate_agent.py: error: the stations do not know the scene 'north': they know all, west"
    ]


def test_shortest_path_by_the_documented_recipe(tmp_path: Path) -> None:
    (row,) = scored(tmp_path, "--policy", "shortest_path", *TINY, "--seed", "77")
    levels = (FlatlandSimulator(make_rail_env(ENV_CONFIGS["Tiny"], seed)) for seed in range(77, 81))
    results = [play_by_rule(level, ShortestPath()) for level in levels]
    scores, completions = [r.score for r in results], [r.completion for r in results]
    assert row.pop("per_episode") == [
        {
            "seed": 77 + i,
            "score": result.score,
            "completion": result.completion,
            "deadlocked": result.deadlocked,
            "never_departed": result.never_departed,
            "steps": result.n_steps,
            "losses": result.losses,
        }
        for i, result in enumerate(results)
    ]
    assert row == {
        "policy": "shortest_path",
        "config": "Tiny",
        "episodes": 4,
        "first_seed": 77,
        "score_mean": pytest.approx(np.mean(scores)),
        "score_se": pytest.approx(np.std(scores, ddof=1) / 2),
        "completion_mean": pytest.approx(np.mean(completions)),
        "completion_se": pytest.approx(np.std(completions, ddof=1) / 2),
        "deadlock_mean": pytest.approx(np.mean([r.deadlocked for r in results])),
        "never_departed_mean": pytest.approx(np.mean([r.never_departed for r in results])),
        "losses_mean": pytest.approx({c: np.mean([r.losses[c] for r in results]) for c in results[0].losses}),
        "by_policy": [],
    }


def test_same_command_same_numbers(tmp_path: Path, checkpoint: Path) -> None:
    arguments = ["--policy", str(checkpoint), "--policy", "random", *TINY]
    assert scored(tmp_path, *arguments) == scored(tmp_path, *arguments)


def test_every_policy_on_every_environment(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = scored(tmp_path, "--policy", str(checkpoint), "--policy", "do_nothing", "-e", "Tiny", "-e", "0", "-n", "1")
    assert [(row["policy"], row["config"]) for row in rows] == [
        (policy, config) for config in ("Tiny", "Test_0") for policy in (str(checkpoint), "do_nothing")
    ]
    assert all(row["score_se"] is None and row["completion_se"] is None for row in rows)
    tables = capsys.readouterr().out.split("\n\n")
    assert [table.split(",")[0] for table in tables] == ["Tiny", "Test_0"]
    for table, of_checkpoint in zip(tables, rows[::2], strict=True):
        lines = table.splitlines()
        assert "completion" in lines[1]
        assert lines[2].split()[:3] == [
            str(checkpoint),
            f"{of_checkpoint['score_mean']:.3f}",
            f"{of_checkpoint['completion_mean']:.3f}",
        ]
        assert "1.000" in lines[3]


def test_published_figures_of_shortest_paths(tmp_path: Path) -> None:
    """What anyone gets who plays Test_0 with seeds 1000 to 1049."""
    (row,) = scored(tmp_path, "--policy", "shortest_path", "-n", "50", "--seed", "1000")
    assert (round(row["score_mean"], 3), round(row["score_se"], 3)) == (-0.296, 0.017)
    assert (round(row["completion_mean"], 3), round(row["completion_se"], 3)) == (0.276, 0.036)


def test_workers_change_nothing(tmp_path: Path, checkpoint: Path) -> None:
    arguments = ["--policy", str(checkpoint), "--policy", "random", "--policy", "ceiling", *TINY, "-e", "0"]
    assert scored(tmp_path, *arguments) == scored(tmp_path, *arguments, "--num_workers", "2")


def _killed(task: Task) -> list[Played]:
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def test_a_worker_that_is_killed_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "_play_in_worker", _killed)
    assert main(["--policy", "random", *TINY, "--num_workers", "2"]) == 1
    assert "a process that plays levels has ended" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_the_command_whatever_ends_it(number: int, tmp_path: Path) -> None:
    command = [sys.executable, "reinforcement_learning/evaluate_agent.py", "--policy", "random", "-e", "Tiny"]
    with subprocess.Popen([*command, "-n", "100000", "--num_workers", "2"], cwd=PROJECT_ROOT) as process:
        workers: list[psutil.Process] = []
        while len(workers) < 2:
            assert process.poll() is None
            workers = psutil.Process(process.pid).children()
        process.send_signal(number)
    assert process.returncode == -number
    assert psutil.wait_procs(workers, timeout=60)[1] == []


def test_what_else_is_played_changes_nothing(tmp_path: Path) -> None:
    alone = [scored(tmp_path, "--policy", name, *TINY)[0] for name in ("shortest_path", "random", "ceiling")]
    together = scored(
        tmp_path, "--policy", "shortest_path", "--policy", "random", "--policy", "ceiling", *TINY, "--num_workers", "1"
    )
    assert alone == together


def test_paired_differences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = scored(tmp_path, "--policy", "do_nothing", "--policy", "shortest_path", *TINY)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("difference to do_nothing")
    differences = [b["score"] - a["score"] for a, b in zip(first["per_episode"], second["per_episode"], strict=True)]
    _, mean, _, error, *_ = lines[-1].split()
    assert mean == f"{np.mean(differences):.3f}"
    assert error == f"{np.std(differences, ddof=1) / 2:.3f}"


def test_planning_is_scored_beside_the_policy_alone(tmp_path: Path, checkpoint: Path) -> None:
    arguments = ["--policy", str(checkpoint), "--policy", "do_nothing", "-e", "Tiny", "-n", "2"]
    alone, peer = scored(tmp_path, *arguments)
    rows = scored(tmp_path, *arguments, "--plan_seconds", "600", "--num_workers", "2")
    assert [row["policy"] for row in rows] == [str(checkpoint), f"{checkpoint} with planning", "do_nothing"]
    assert (rows[0], rows[2]) == (alone, peer)
    assert rows == scored(tmp_path, *arguments, "--plan_seconds", "600")


class NobodyReads(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def no_room(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class TestNothingIsLost:
    PLAYED = ("--policy", "forward", "-e", "Tiny", "-n", "2")

    def test_json_is_there_though_nobody_reads_the_table(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(sys, "stdout", NobodyReads())
        rows = scored(tmp_path, *self.PLAYED, "-e", "Test_0")
        assert [row["config"] for row in rows] == ["Tiny", "Test_0"]
        assert main(list(self.PLAYED)) == 1
        assert "the table could not be printed" in capsys.readouterr().err

    def test_letters_that_cannot_be_shown_are_replaced(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        shown = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii"))
        assert len(scored(tmp_path, *self.PLAYED)) == 1
        assert b" ? 0" in shown.getvalue()

    def test_json_has_each_environment_before_its_table_is_printed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, said = tmp_path / "results.json", []
        monkeypatch.setattr(evaluate_agent, "say", lambda text: said.append(len(json.loads(path.read_text()))) or True)
        assert main([*self.PLAYED, "-e", "Test_0", "--json", str(path)]) == 0
        assert said == [1, 2]

    @pytest.mark.parametrize(("option", "name"), [("--json", "x.json"), ("--render", "x.gif"), ("--diagram", "x.png")])
    def test_full_disk_ends_in_a_sentence_and_1(
        self,
        tmp_path: Path,
        option: str,
        name: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        path = tmp_path / name
        monkeypatch.setattr(evaluate_agent, "atomic_write", no_room)
        monkeypatch.setattr(rendering, "atomic_write", no_room)
        monkeypatch.setattr(time_distance, "atomic_write", no_room)
        assert main([*self.PLAYED, option, str(path)]) == 1
        out, err = capsys.readouterr()
        assert "forward" in out
        assert err == f"evaluate_agent.py: error: {option}: {path} could not be written (No space left on device).\n"

    def test_refused_it_leaves_no_folder(self, tmp_path: Path) -> None:
        results, film = (str(tmp_path / name / "file.gif") for name in ("results", "film"))
        assert main(["--policy", "missing.pt", "--json", results, "--render", film]) == 2
        assert os.listdir(tmp_path) == []


def test_levels_follow_the_seed(tmp_path: Path) -> None:
    first, second = (scored(tmp_path, "--policy", "forward", *TINY, "--seed", seed)[0] for seed in ("0", "2"))
    assert first["per_episode"][2:] == second["per_episode"][:2]
    assert first["score_mean"] != second["score_mean"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--policy", "missing.pt"], "missing.pt"),
        (["--policy", "clever"], "shortest_path"),
        (["--policy", "x" * 300], "shortest_path"),
        (["--policy", __file__], "not a checkpoint"),
        (["--policy", str(Path(__file__).parent)], "is a folder; give the path of a checkpoint"),
        (["--policy", "random", "-e", "17"], "17"),
        (["--policy", "random", "--seed", str(MAX_USER_SEED)], "--seed"),
        (["--policy", "random", "--policy_index", "mapping", "--plan_seconds", "1"], "--plan_seconds"),
        (["--policy", "random", "--render", "film.avi"], ".mp4"),
        (["--policy", "ceiling", "--render"], "ceiling"),
        (["--policy", "ceiling", "--diagram", "lines.png"], "--diagram cannot show ceiling"),
        (["--policy", "random", "--diagram", "lines.gif"], ".png"),
        (["--policy", "random", "--render", "same.png", "--diagram", "same.png"], "must be two files"),
        (["--policy", "random", "--json", "/"], "folder"),
        (["--policy", "random", "--json", f"{__file__}/results.json"], "--json"),
    ],
)
def test_mistakes_end_in_one_line_and_2(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert words in err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--policy", "random", "-n", "few"],
        ["--policy", "random", "-n", "0"],
        ["--policy", "random", "--seed", "-1"],
        ["--policy", "random", "--num_workers", "0"],
        ["--policy", "random", "--colour"],
        ["--policy", "random", "--plan_seconds=-1"],
    ],
)
def test_unreadable_command_line_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_checkpoint_of_another_feature_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer, _ = make_trainer(tmp_path)
    path = tmp_path / "old.pt"
    write_checkpoint(path, trainer.state.state_dict() | {"feature_set": {"name": "tree", "version": 0}})
    assert main(["--policy", str(path)]) == 2
    err = capsys.readouterr().err
    assert "tree version 0" in err
    assert "version 1" in err


def test_checkpoint_without_a_policy_of_that_number(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--policy", str(checkpoint), "--policy_index", "3"]) == 2
    assert "holds one policy, number 0, but --policy_index is 3" in capsys.readouterr().err


def test_draws_a_diagram_of_the_first_level(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    diagram = tmp_path / "new" / "lines.png"
    arguments = ["--policy", "least_detour", "--policy", "do_nothing", "-e", "Tiny", "-n", "2", "--seed", "7"]
    assert main([*arguments, "--diagram", str(diagram)]) == 0
    assert f"{diagram} shows seed 7" in capsys.readouterr().out
    with Image.open(diagram) as picture:
        assert picture.height > 1000  # a diagram for each policy
    assert [path.name for path in diagram.parent.iterdir()] == ["lines.png"]


def test_diagram_of_a_plan_shows_what_was_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Sequence[Diagram]] = []
    monkeypatch.setattr(evaluate_agent, "draw_time_distance", lambda state, diagrams, path: drawn.append(diagrams))
    planner = f"{PROJECT_ROOT / 'checkpoints' / 'flatland_policy.pt'} with planning"
    arguments = ["--policy", "least_detour", "--policy", planner, "--plan_seconds", "1", "-e", "Tiny", "-n", "1"]
    assert main([*arguments, "--diagram", str(tmp_path / "lines.png")]) == 0
    ((by_rule, planned),) = drawn
    assert by_rule.planned is None
    assert planned.planned is not None
    assert planned.played is not None
    # nothing breaks in Tiny: all goes as planned
    for plan, way in zip(planned.planned, planned.played, strict=True):
        assert len(way) > 5
        assert plan.tolist() == way.tolist()


@pytest.mark.parametrize("suffix", [".gif", ".mp4", ".png"])
def test_films_the_first_level_for_each_environment(tmp_path: Path, suffix: str) -> None:
    arguments = ["--policy", "shortest_path", "--policy", "random", "-e", "Tiny", "-n", "1"]
    film = tmp_path / f"film{suffix}"
    assert main([*arguments, "--render", str(film)]) == 0
    assert film.stat().st_size > 1000
    if suffix == ".png":
        with Image.open(film) as picture:
            assert picture.width > 2 * 360  # two of the smallest, side by side
        assert main([*arguments, "-e", "0", "--render", str(film)]) == 0
        assert sorted(path.name for path in tmp_path.iterdir()) == ["film.png", "film_Test_0.png", "film_Tiny.png"]


class TestCheckpointOfSeveralPolicies:
    @pytest.fixture(scope="class")
    def several(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        trainer, _ = make_trainer(tmp_path_factory.mktemp("several"), n_episodes=3, num_policies=2, n_step=2)
        trainer.run()
        return trainer.folders.checkpoints / BEST

    def scores(self, checkpoint: Path, choice: str, tmp_path: Path) -> list[float]:
        path = tmp_path / f"{choice}.json"
        arguments = ["--policy", str(checkpoint), "-e", "Tiny", "-n", "8", "--json", str(path)]
        assert main([*arguments, "--policy_index", choice]) == 0
        (row,) = json.loads(path.read_text())
        return [episode["score"] for episode in row["per_episode"]]

    def test_each_the_best_and_all_as_in_training(self, several: Path, tmp_path: Path) -> None:
        first, second, best = (self.scores(several, choice, tmp_path) for choice in ("0", "1", "best"))
        assert first != second
        evaluation = read_checkpoint(several)["last_evaluation"]
        wanted = [evaluation[f"policy_{p:02d}/evaluation/scores_mean"] for p in (0, 1)]
        assert best == (first, second)[wanted.index(max(wanted))]
        assert self.scores(several, "mapping", tmp_path) == self.scores(several, "mapping", tmp_path)

    def test_film_of_the_mapping_tells_who_controls_which_train(self, several: Path, tmp_path: Path) -> None:
        def pixels_of_policies(choice: str) -> int:
            film = tmp_path / f"{choice}.png"
            arguments = ["--policy", str(several), "-e", "Tiny", "-n", "1", "--render", str(film)]
            assert main([*arguments, "--policy_index", choice]) == 0
            with Image.open(film) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            return sum(int((pixels == policy_colour(policy)).all(axis=-1).sum()) for policy in (0, 1))

        assert pixels_of_policies("mapping") > 30
        assert pixels_of_policies("best") == 0

    @pytest.mark.parametrize("choice", ["worst", "-1", "1.5"])
    def test_other_choices_are_refused(self, several: Path, choice: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as exit_info:
            main(["--policy", str(several), f"--policy_index={choice}"])
        assert exit_info.value.code == 2
        assert "mapping" in capsys.readouterr().err
