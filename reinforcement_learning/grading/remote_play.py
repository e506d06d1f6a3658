"""Plays all environments of flatland-rl's remote evaluator, and sums up what came of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from reinforcement_learning.grading.remote_evaluation import EpisodeTimedOut, RemoteEvaluation
from reinforcement_learning.playing.episode_result import EpisodeResult
from reinforcement_learning.scoring.players import Player
from utils.system.console import say
from utils.system.stopwatch import Stopwatch
from utils.system.users_code import UsersCodeError


@dataclass(frozen=True)
class Episode:
    """What came of one environment."""

    level: str  # its file below the folder of tests
    n_trains: int
    result: EpisodeResult | None  # None: the evaluator gave up waiting, or this policy cannot play it
    stopwatch: Stopwatch  # seconds to observe and choose (``observation``, ``inference``), of flatland-rl (``step``)


def play_all(evaluation: RemoteEvaluation, player: Player) -> list[Episode]:
    """Plays one environment after the other until the evaluator has no more.

    Raises:
        UsersCodeError: a user's rule, policy or features fail.
        EvaluatorError: the evaluation cannot go on.
    """
    episodes: list[Episode] = []
    while True:
        env = evaluation.next_level()
        if evaluation.timed_out_at_the_end and episodes and episodes[-1].result is not None:
            episodes[-1] = replace(episodes[-1], result=None)
            say(f"{episodes[-1].level}: timed out after its last step, scores 0")
        if env is None:
            return episodes
        stopwatch, result, remark = Stopwatch(), None, ""
        try:
            result = player.play(evaluation.simulator(), len(episodes), stopwatch)
        except EpisodeTimedOut:
            remark = "timed out, scores 0"
        except UsersCodeError:
            raise
        except ValueError as error:
            remark = f"cannot be played by this kit ({error}), all trains stay where they are"
            evaluation.sit_out()
        episode = Episode(evaluation.level_path, env.get_num_agents(), result, stopwatch)
        episodes.append(episode)
        say(f"{episode.level}: {episode.n_trains} trains, {remark or _outcome(episode)}")


def _outcome(episode: Episode) -> str:
    assert episode.result is not None
    result, seconds = episode.result, episode.stopwatch.seconds
    own = seconds["observation"] + seconds["inference"]
    return (
        f"{result.n_steps} steps, score {1 + result.score:.3f}, completion {result.completion:.3f}, "
        f"{1000 * (own + seconds['step']) / result.n_steps:.1f} ms a step, of which {1000 * own / result.n_steps:.2f} "
        "to observe and choose"
    )


def table(episodes: Sequence[Episode]) -> str:
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
