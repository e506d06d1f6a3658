"""Cross-play: how well policies play alone, in pairs that share the trains, and as the training maps them."""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from reinforcement_learning.multi_policy.mapping import PolicyOfTrain
from reinforcement_learning.playing.episode_result import EpisodeResult, mean_and_standard_error
from reinforcement_learning.playing.play_levels import play_levels_together
from reinforcement_learning.playing.policy import Policy
from utils.observation.observer import Observer
from utils.simulator.rail_state import RailState
from utils.simulator.simulator import Simulator


@dataclass(frozen=True)
class Line:
    """One line of the table: means over the levels, with their standard errors."""

    who: str
    score: float
    score_error: float
    completion: float
    completion_error: float


def half_and_half(first: int, second: int) -> Callable[[int, RailState], PolicyOfTrain]:
    """Every other train to each of two policies; the first train changes its policy from level to level."""

    def policy_of_train(number: int, state: RailState) -> PolicyOfTrain:
        return np.where((np.arange(state.n_trains) + number) % 2 == 0, first, second).astype(np.int64)

    return policy_of_train


def cross_play(
    policies: Sequence[Policy],
    mapping: Callable[[int, RailState], PolicyOfTrain],
    levels: Callable[[], Iterable[Simulator]],
    observer: Observer,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Line]:
    """Plays the same levels in every line-up, greedily. Where ``should_stop`` says so, it ends with fewer lines."""
    line_ups: list[tuple[str, Callable[[int, RailState], PolicyOfTrain]]] = [
        (f"policy {p} alone", half_and_half(p, p)) for p in range(len(policies))
    ]
    pairs = itertools.combinations(range(len(policies)), 2)
    line_ups += [(f"policies {p} and {q}, half and half", half_and_half(p, q)) for p, q in pairs]
    line_ups.append(("training mapping", mapping))
    lines = []
    for who, policy_of_train in line_ups:
        results = play_levels_together(levels(), observer, policies, policy_of_train, should_stop=should_stop)
        if should_stop():
            break
        lines.append(_line(who, results))
    return lines


def as_text(lines: Sequence[Line]) -> str:
    """The table, for people."""
    width = max(len(line.who) for line in lines)
    if math.isnan(lines[0].score_error):  # the error of a single level is not known
        rows = [f"  {line.who:<{width}}  {line.score:.3f}  {line.completion:6.1%}" for line in lines]
        return "\n".join([f"  {'cross-play':<{width}}  score   completion", *rows])
    rows = [
        f"  {line.who:<{width}}  {line.score:.3f} ± {line.score_error:.3f}  "
        f"{line.completion:6.1%} ± {line.completion_error:.1%}"
        for line in lines
    ]
    return "\n".join([f"  {'cross-play':<{width}}  score ± error    completion ± error", *rows])


def as_json(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """The table, for programs."""
    rows = [asdict(line) for line in lines]
    return [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()} for row in rows]


def _line(who: str, results: Sequence[EpisodeResult]) -> Line:
    score, score_error = mean_and_standard_error([result.score for result in results])
    completion, completion_error = mean_and_standard_error([result.completion for result in results])
    return Line(who, score, score_error, completion, completion_error)
