"""The submission: plays all environments of flatland-rl's remote evaluator with a trained policy.

    redis-server --bind 127.0.0.1 --port 6379 --save "" &
    flatland-evaluator --tests ENVS --results-path results.csv &
    AICROWD_TESTS_FOLDER=ENVS python run.py

The checkpoint is the one that ships, or the one that FLATLAND_CHECKPOINT or --checkpoint names. With
FLATLAND_PLAN_SECONDS or --plan_seconds it plans while it plays (``reinforcement_learning/scoring/planning.py``).
Redis is looked for on port 6379 of the host in the environment variable redis_ip, 127.0.0.1 unless set.
"""

import argparse
import gc
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

if __name__ == "__main__":
    gc.disable()  # what is imported is no garbage, and looking for some takes a fifth of the start

import torch

from reinforcement_learning.grading.remote_evaluation import EpisodeTimedOut, EvaluatorError, RemoteEvaluation
from reinforcement_learning.playing.episode_result import EpisodeResult
from reinforcement_learning.saving.checkpointing import CheckpointError, checkpoint_to_submit
from reinforcement_learning.scoring.planning import PlanningOptions, planning_to_submit
from reinforcement_learning.scoring.scoring import Player, load_player, planning_player
from reinforcement_learning.settings.arguments import (
    BEST_POLICY,
    MAPPING,
    SentenceParser,
    at_least,
    policy_choice,
    seconds_to_plan,
)
from reinforcement_learning.submission import load_warmed_up
from utils.system.stopwatch import Stopwatch


@dataclass(frozen=True)
class Episode:
    """What came of one environment.

    Attributes:
        level: the environment's file below the folder of tests.
        n_trains: how many it has.
        result: None where the evaluator gave up waiting, or the environment cannot be played by this policy.
        stopwatch: seconds of observing and choosing (``observation``, ``inference``) and of flatland-rl (``step``).
    """

    level: str
    n_trains: int
    result: EpisodeResult | None
    stopwatch: Stopwatch


def main(arguments: Sequence[str] | None = None) -> int:
    """Plays and submits; returns the exit code."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    checkpoint = options.checkpoint or checkpoint_to_submit()
    try:
        # all of it before the evaluator is asked for anything: its clock runs from then on
        planning = (
            planning_to_submit() if options.plan_seconds is None else PlanningOptions.of_seconds(options.plan_seconds)
        )
        player = _load(checkpoint, options.policy_index, planning)
    except (CheckpointError, ValueError) as error:
        print(f"run.py: error: {error}", file=sys.stderr)
        return 2
    how = f", planning for at most {planning.seconds:g} s a step" if planning else ""
    print(f"playing with {checkpoint}{how}; waiting for the evaluator, {options.wait} s at most", flush=True)
    try:
        evaluation = RemoteEvaluation(options.wait)
        episodes = _play(evaluation, player)
        print(_table(episodes), flush=True)
        print(f"the evaluator says: {evaluation.submit()}", flush=True)
    except EvaluatorError as error:
        print(f"run.py: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("run.py: interrupted; nothing was submitted.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = SentenceParser(prog="run.py", description="Plays all environments of flatland-rl's remote evaluator.")
    parser.add_argument("--checkpoint", metavar="FILE", help="default: $FLATLAND_CHECKPOINT, else the one that ships")
    parser.add_argument(
        "--policy_index",
        type=policy_choice,
        default=BEST_POLICY,
        metavar="I|best|mapping",
        help="which policy of a checkpoint that holds several: its number, the best, or all as they were mapped in "
        "training (default: best)",
    )
    parser.add_argument(
        "--plan_seconds",
        type=seconds_to_plan,
        metavar="S",
        help="plan for at most S seconds a step; 0: not at all (default: $FLATLAND_PLAN_SECONDS, else 0)",
    )
    parser.add_argument(
        "--wait", type=at_least(0), default=50, metavar="SECONDS", help="for Redis and the evaluator (default: 50)"
    )
    return parser


def _load(checkpoint: str | Path, choice: int | str, planning: PlanningOptions | None) -> Player:
    """What plays, ready to play in time.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        ValueError: the mapping cannot be found any more, or is to plan; the message is one sentence.
    """
    policy, observer = load_warmed_up(checkpoint, choice if isinstance(choice, int) else None)
    if choice != MAPPING:
        return planning_player(policy, observer, planning)
    if planning is not None:
        raise ValueError("planning is for a single policy: --policy_index must be a number or best.")
    return load_player(str(checkpoint), MAPPING)


def _play(evaluation: RemoteEvaluation, player: Player) -> list[Episode]:
    """Plays one environment after the other until the evaluator has no more."""
    episodes: list[Episode] = []
    while True:
        env = evaluation.next_level()
        if evaluation.timed_out_at_the_end and episodes and episodes[-1].result is not None:
            episodes[-1] = replace(episodes[-1], result=None)
            print(f"{episodes[-1].level}: timed out after its last step, scores 0", flush=True)
        if env is None:
            return episodes
        stopwatch, result, remark = Stopwatch(), None, ""
        try:
            result = player.play(evaluation.simulator(), len(episodes), stopwatch)
        except EpisodeTimedOut:
            remark = "timed out, scores 0"
        except ValueError as error:
            remark = f"cannot be played by this kit ({error}), all trains stay where they are"
            evaluation.sit_out()
        episode = Episode(evaluation.level_path, env.get_num_agents(), result, stopwatch)
        episodes.append(episode)
        print(f"{episode.level}: {episode.n_trains} trains, {remark or _outcome(episode)}", flush=True)


def _outcome(episode: Episode) -> str:
    assert episode.result is not None
    result, seconds = episode.result, episode.stopwatch.seconds
    own = seconds["observation"] + seconds["inference"]
    return (
        f"{result.n_steps} steps, score {1 + result.score:.3f}, completion {result.completion:.3f}, "
        f"{1000 * (own + seconds['step']) / result.n_steps:.1f} ms a step, of which {1000 * own / result.n_steps:.2f} "
        "to observe and choose"
    )


def _table(episodes: Sequence[Episode]) -> str:
    """Means for each test, and of all environments; scores as graders count them, 1 being perfect."""
    tests: dict[str, list[Episode]] = {}
    for episode in episodes:
        tests.setdefault(episode.level.rpartition("/")[0], []).append(episode)
    lines = ["", f"{'test':12}  environments  not played   score  completion"]
    lines += [_row(name, of_test) for name, of_test in tests.items()]
    return "\n".join([*lines, _row("all", episodes)])


def _row(name: str, episodes: Sequence[Episode]) -> str:
    played = [episode.result for episode in episodes if episode.result is not None]
    score = sum(1 + result.score for result in played) / len(episodes) if episodes else math.nan
    completion = sum(result.completion for result in played) / len(episodes) if episodes else math.nan
    return f"{name:12}  {len(episodes):12}  {len(episodes) - len(played):10}  {score:6.3f}  {completion:10.3f}"


if __name__ == "__main__":
    gc.freeze()
    gc.enable()
    sys.exit(main())
