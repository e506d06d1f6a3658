"""Records the episodes under way and hands out the rows of each when it is over.

Between two decisions of a train many steps may pass (it runs inside a cell, waits out a malfunction, or has nothing
to decide), so transitions are semi-Markov: rewards are discounted and summed up, and the discount of what follows is
gamma to the number of steps (Sutton, Precup, Singh 1999). Where a train has arrived or the episode is over nothing
follows. Running out of time counts as an end like any other: the penalty for it falls due at that moment and the
remaining time is part of the task, so nothing is bootstrapped beyond it.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from reinforcement_learning.playing.episode_rows import NOT_SHOWN, NOTHING_FOLLOWS, EpisodeRows
from reinforcement_learning.playing.reward_parts import parts_of_intervals
from reinforcement_learning.playing.reward_shaping import ARRIVAL, POTENTIAL, Floats
from reinforcement_learning.playing.seen import Seen, SeenByDeciding, seen_by_deciding, spread
from reinforcement_learning.playing.train_settings import TrainSettings
from utils.observation.neighbour_rows import NeighbourRows
from utils.simulator.action_mask import NOTHING_TO_DECIDE
from utils.simulator.rail_grid import DO_NOTHING

_IN_SEEN = np.zeros((0, 0), dtype=np.float32)  # in the place of observations


class Decisions(NamedTuple):
    """Trains that decide at one step; the leading axis is theirs."""

    trains: npt.NDArray[np.intp]  # [k], in rising order
    observations: npt.NDArray[np.float32]  # [k, features]; not kept where trains see neighbours
    action_masks: npt.NDArray[np.bool_]  # [k, 5]
    actions: npt.NDArray[np.int64]  # [k], taken
    shown: npt.NDArray[np.int64]  # [k], a plan's; NOT_SHOWN for none


@dataclass
class _Episode:
    settings: TrainSettings
    potential: Floats  # [trains], in the beginning
    parts: list[Floats] = field(default_factory=list)  # of each step so far, [4, trains]
    decided_at: list[int] = field(default_factory=list)  # steps with decisions
    decisions: list[Decisions] = field(default_factory=list)  # in them
    seen: list[Seen] = field(default_factory=list)  # in them, where trains see neighbours
    view: Seen | None = None  # what was seen last, there


class Recorder:
    """The episodes under way in the slots of a rollout.

    Call :meth:`begin` for each episode, in each step :meth:`see` where trains see neighbours, :meth:`decide` for the
    trains that choose an action and :meth:`reward` afterwards, and :meth:`finish` at the end.

    Args:
        n_slots: of the rollout.
        n_trains: places for trains in each of them.
    """

    def __init__(self, n_slots: int, n_trains: int) -> None:
        self._n_trains = n_trains
        self._episodes: list[_Episode | None] = [None] * n_slots

    def begin(self, slot: int, settings: TrainSettings, potential: Floats) -> None:
        """Begins an episode; ``settings`` and ``potential`` are for all places of the slot."""
        self._episodes[slot] = _Episode(settings, potential.copy())

    def see(self, slot: int, rows: NeighbourRows) -> None:
        """Takes down what trains see before they decide, with neighbours; the arrays are copied."""
        episode = self._episodes[slot]
        assert episode is not None
        episode.view = Seen.copied(rows)

    def decide(self, decisions: Decisions) -> None:
        """Takes down the decisions of a step; trains are counted through all slots. The arrays are kept."""
        arrays: tuple[Any, ...] = decisions
        first_trains = np.arange(len(self._episodes) + 1) * self._n_trains
        bounds = np.searchsorted(decisions.trains, first_trains).tolist()
        for episode, first_train, (first, end) in zip(self._episodes, first_trains, pairwise(bounds), strict=False):
            if first < end and episode is not None:
                trains, observations, *others = (array[first:end] for array in arrays)
                if episode.view is not None:
                    episode.seen.append(episode.view)
                    observations = _IN_SEEN
                episode.decided_at.append(len(episode.parts))
                episode.decisions.append(Decisions(trains - first_train, observations, *others))

    def reward(self, slot: int, parts: Floats) -> None:
        """Takes down what a step has brought, ``[4, trains]``; see ``parts_of_step``. The array is kept."""
        episode = self._episodes[slot]
        assert episode is not None
        episode.parts.append(parts)

    def finish(self, slot: int) -> EpisodeRows | None:
        """The rows of an episode that is over; None where nobody had anything to decide."""
        episode = self._episodes[slot]
        assert episode is not None
        self._episodes[slot] = None
        if not episode.decisions:
            return None
        together = Decisions(*(np.concatenate(arrays) for arrays in zip(*episode.decisions, strict=True)))
        train, settings = together.trains, episode.settings
        start = np.repeat(episode.decided_at, [len(decisions.trains) for decisions in episode.decisions])
        parts = np.array(episode.parts)  # [steps, 4, trains]
        following = _next_of_same_train(train)
        end = np.where(following >= 0, start[following], self._task_ends(parts, settings)[train])
        policy_of_train, gamma = (
            np.broadcast_to(value, self._n_trains) for value in (settings.policy_of_train, settings.gamma)
        )
        of_intervals = parts_of_intervals(
            parts[:, :POTENTIAL],
            np.concatenate([episode.potential[np.newaxis], parts[:, POTENTIAL]]),
            train,
            start,
            end,
            gamma[train],
        )
        seen = (
            seen_by_deciding(episode.seen, [decisions.trains for decisions in episode.decisions])
            if episode.seen
            else SeenByDeciding.alone(train, together.observations)
        )
        at, n = seen.at, len(seen.trains)
        next_row = np.where(following >= 0, at[following] - at, NOTHING_FOLLOWS)
        return EpisodeRows(
            seen.own,
            spread(together.action_masks, at, n, NOTHING_TO_DECIDE),
            spread(together.actions.astype(np.int8), at, n, DO_NOTHING),
            spread(together.shown.astype(np.int8), at, n, NOT_SHOWN),
            spread(np.ones(len(at), dtype=bool), at, n),
            spread(next_row.astype(np.int32), at, n, NOTHING_FOLLOWS),
            spread((end - start).astype(np.int32), at, n, 1),
            **{name: spread(array, at, n) for name, array in of_intervals.items()},
            policy_of_train=policy_of_train[seen.trains],
            neighbours=seen.neighbours,
            relations=seen.relations,
        )

    @staticmethod
    def _task_ends(parts: Floats, settings: TrainSettings) -> npt.NDArray[np.int64]:
        """The step after each train's last one, ``[trains]``."""
        arrived = parts[:, ARRIVAL] > 0.0
        at_arrival = np.where(arrived.any(axis=0), arrived.argmax(axis=0) + 1, len(parts))
        # with a share in the others' rewards a train's task goes on when it has arrived
        return np.where(settings.in_a_team, len(parts), at_arrival)


def _next_of_same_train(train: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Which is the next decision of the same train, ``[decisions]``; -1 for none."""
    by_train = np.argsort(train, kind="stable")
    same = train[by_train[:-1]] == train[by_train[1:]]
    following = np.full(len(train), -1)
    following[by_train[:-1][same]] = by_train[1:][same]
    return following
