"""The walk of graders of trajectories: flatland-rl's commands play one level after the other and check what was played.

As in the competition of 2026, a *scenario* is a saved environment and a *level* is a group of them. A level that
brings too few trains home ends the walk, and there is a limit for the time of a scenario and of the whole walk.
"""

import csv
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from flatland.envs.rewards import Rewards

from reinforcement_learning.grading.flatland_commands import TimeIsUp, call, tool

LEAST_COMPLETION = 0.25
"""A level below it, on average over its scenarios, is the last one that is played."""
SECONDS_A_SCENARIO = 30 * 60.0
SECONDS_IN_ALL = 5 * 60 * 60.0

EVALUATORS_SEED = 1001
"""Of the malfunctions, in flatland-rl's remote evaluator."""
_NAME = re.compile(r"level_(\d+)_scenario_(\d+)")

Clock = Callable[[], float]


@dataclass(frozen=True)
class Scenario:
    """A saved environment, and the group that it belongs to."""

    path: Path
    level: str  # name of the group
    name: str  # its own in that group


@dataclass(frozen=True)
class Grade:
    """What a scenario has brought."""

    scenario: Scenario
    score: float = 0.0  # normalized, 1 is perfect; 0 if it was not played, or not to its end
    completion: float = 0.0  # share of the trains that have arrived
    seconds: float = 0.0
    remark: str = ""  # why it was not played to its end; empty if it was


def scenarios_of(paths: Sequence[Path]) -> list[Scenario]:
    """Scenarios in the order of the walk.

    Files with names as ``level_0_scenario_1.pkl`` belong to the level that they name; others to their folder.
    """

    def place(path: Path) -> tuple[list[int], str, str]:
        numbers = _NAME.fullmatch(path.stem)
        return [int(number) for number in numbers.groups()] if numbers else [], path.parent.name, path.name

    scenarios = []
    for path in sorted(paths, key=place):
        numbers = _NAME.fullmatch(path.stem)
        level, name = (f"level {numbers[1]}", f"scenario {numbers[2]}") if numbers else (path.parent.name, path.name)
        scenarios.append(Scenario(path, level, name))
    return scenarios


def walk(
    scenarios: Sequence[Scenario],
    folder: Path,
    rewards: type[Rewards],
    ends_early: bool = True,
    clock: Clock = time.monotonic,
) -> Iterator[Grade]:
    """Plays one scenario after the other.

    Args:
        scenarios: those of a level one after the other.
        ends_early: whether a level that brings too few trains home is the last one.

    Yields:
        What each has brought, as soon as it is known. In the end flatland-rl's analysis has read all recordings.

    Raises:
        GradingError: one of flatland-rl's commands fails.
    """
    began, over, root = clock(), "", folder / "trajectories"
    for level, group in groupby(scenarios, key=lambda scenario: scenario.level):
        completions = []
        for scenario in group:
            if not over and clock() - began >= SECONDS_IN_ALL:
                over = f"not played: the {SECONDS_IN_ALL / 3600:g} hours were over"
            grade = Grade(scenario, remark=over)
            if not over:
                left = SECONDS_IN_ALL - (clock() - began)
                grade = _play(scenario, root, rewards, min(SECONDS_A_SCENARIO, left), clock)
            completions.append(grade.completion)
            yield grade
        if ends_early and not over and sum(completions) < LEAST_COMPLETION * len(completions):
            over = f"not played: {level} brings less than {LEAST_COMPLETION:.0%} of its trains home"
    if root.exists():
        (folder / "analysis").mkdir()
        analysis = ["--root-data-dir", str(root), "--output-dir", str(folder / "analysis")]
        call([tool("flatland-trajectory-analysis"), *analysis], folder)


def _play(scenario: Scenario, root: Path, rewards: type[Rewards], seconds: float, clock: Clock) -> Grade:
    data_dir, began = root / scenario.level / scenario.path.stem, clock()
    try:
        generate_trajectory(scenario.path, data_dir, rewards, seconds)
    except TimeIsUp:
        shutil.rmtree(data_dir)
        return Grade(scenario, seconds=clock() - began, remark=f"not over after {seconds / 60:.0f} minutes")
    taken = clock() - began
    with (data_dir / "event_logs" / "TrainMovementEvents.trains_arrived.tsv").open() as file:
        (row,) = csv.DictReader(file, delimiter="\t")
    return Grade(scenario, float(row["normalized_reward"]), float(row["success_rate"]), taken)


def generate_trajectory(env_path: Path, data_dir: Path, rewards: type[Rewards], seconds: float | None = None) -> None:
    """Lets flatland-rl play an environment with ``submission.py`` and then check what was recorded.

    Raises:
        TimeIsUp: it plays longer.
        GradingError: one of its commands fails.
    """
    data_dir.mkdir(parents=True)
    episode = ["--data-dir", str(data_dir), "--ep-id", "episode"]
    episode += ["--rewards", f"{rewards.__module__}.{rewards.__qualname__}"]
    level = ["--env-path", str(env_path.resolve()), "--snapshot-interval", "0", "--post-seed", str(EVALUATORS_SEED)]
    submitted = ["--policy", "reinforcement_learning.submission.Policy"]
    submitted += ["--obs-builder", "reinforcement_learning.submission.ObservationBuilder"]
    call([tool("flatland-trajectory-generate-from-policy"), *episode, *level, *submitted], data_dir, seconds)
    call([tool("flatland-trajectory-evaluate"), *episode], data_dir)
