"""What episodes leave for learning: a worked example, and a comparison with sums over the list of all rewards."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reinforcement_learning.playing.episode_rows import LOST, NOT_SHOWN, EpisodeRows
from reinforcement_learning.playing.recorder import Decisions, Recorder
from reinforcement_learning.playing.reward_shaping import RewardWeights
from reinforcement_learning.playing.train_settings import TrainSettings
from tests.helpers.playing import all_transitions

PLAIN = RewardWeights(1.0, 0.0, 0.0, 0.0)


def decisions(trains: list[int], step: int) -> Decisions:
    """Of each train that decides at a step, told by what it sees."""
    k = len(trains)
    return Decisions(
        np.array(trains, dtype=np.intp),
        np.array([[train, step] for train in trains], dtype=np.float32).reshape(k, 2),
        np.array([mask_of(train, step) for train in trains], dtype=bool).reshape(k, 5),
        np.array([(2 * train + step) % 5 for train in trains], dtype=np.int64),
        np.array([step % 6 - 1 for step in [step] * k], dtype=np.int64),
    )


def mask_of(train: int, step: int) -> list[bool]:
    return [True, *(step >> bit & 1 == 1 for bit in range(3)), train % 2 == 1]


def parts(rewards: list[float]) -> np.ndarray:
    """A step that brings nothing but the environment's rewards."""
    return np.array([rewards, *[[0.0] * len(rewards)] * 3])


def recorded(rewards: list[list[float]], decides: list[list[int]], **settings: object) -> EpisodeRows:
    """The rows of an episode in which nobody arrives; ``decides`` has the trains of each step."""
    n_trains = len(rewards[0])
    recorder = Recorder(1, n_trains)
    recorder.begin(0, TrainSettings(**settings), np.zeros(n_trains))  # type: ignore[arg-type]
    for step, (of_step, trains) in enumerate(zip(rewards, decides, strict=True)):
        recorder.decide(decisions(trains, step))
        recorder.reward(0, parts(of_step))
    rows = recorder.finish(0)
    assert rows is not None
    return rows


def test_worked_example() -> None:
    """One train, gamma 1/2: it decides at steps 0, 1 and 4, and the episode ends with step 5."""
    rows = recorded([[1.0], [2.0], [4.0], [8.0], [16.0], [32.0]], [[0], [0], [], [], [0], []], gamma=0.5)
    assert rows.observations.tolist() == [[0, 0], [0, 1], [0, 4]]
    assert (rows.n_steps.tolist(), rows.next_row.tolist()) == ([1, 3, 2], [1, 1, 0])
    assert (rows.actions.tolist(), rows.shown.tolist()) == ([0, 1, 4], [NOT_SHOWN, 0, 3])
    assert rows.decided.all()
    batch = all_transitions(rows, replace(PLAIN, gamma=0.5))
    # its own reward; 2 + 4/2 + 8/4; 16 + 32/2
    assert batch.rewards.tolist() == [1.0, 6.0, 32.0]
    assert batch.discounts.tolist() == [0.5, 0.125, 0.0]
    assert batch.next_observations[:2].tolist() == [[0, 1], [0, 4]]
    assert batch.next_action_masks[:2].tolist() == [mask_of(0, 1), mask_of(0, 4)]
    batch = all_transitions(rows, replace(PLAIN, gamma=0.5), n_step=2)
    assert batch.rewards.tolist() == [4.0, 10.0, 32.0]
    assert batch.discounts.tolist() == [0.0625, 0.0, 0.0]


def test_rows_are_in_the_order_of_steps_and_trains() -> None:
    rows = recorded([[0.0] * 3] * 4, [[1], [0, 2], [], [0, 1]])
    assert rows.observations.tolist() == [[1, 0], [0, 1], [2, 1], [0, 3], [1, 3]]
    assert rows.next_row.tolist() == [4, 2, 0, 0, 0]


def test_rewards_before_the_first_decision_belong_to_nobody() -> None:
    assert all_transitions(recorded([[100.0], [3.0]], [[], [0]]), PLAIN).rewards.tolist() == [3.0]


def test_an_episode_without_decisions_leaves_nothing() -> None:
    recorder = Recorder(1, 2)
    recorder.begin(0, TrainSettings(), np.zeros(2))
    recorder.decide(decisions([], 0))
    recorder.reward(0, parts([1.0, 2.0]))
    assert recorder.finish(0) is None


def test_slots_do_not_mix_and_a_new_episode_has_nothing_of_the_one_before() -> None:
    """Two slots of two trains; the episodes end and begin apart."""
    recorder, found = Recorder(2, 2), []
    for slot in (0, 1):
        recorder.begin(slot, TrainSettings(policy_of_train=np.array([slot, 5])), np.zeros(2))
    for step, trains in enumerate(([0, 2, 3], [1, 2])):
        recorder.decide(decisions(trains, step))
        for slot in (0, 1):
            recorder.reward(slot, parts([10.0 * slot + step, 1.0]))
    found.append(recorder.finish(0))
    recorder.begin(0, TrainSettings(policy_of_train=7), np.zeros(2))
    recorder.decide(decisions([1, 2], 2))
    for slot in (0, 1):
        recorder.reward(slot, parts([100.0, 200.0]))
    found += [recorder.finish(0), recorder.finish(1)]
    assert [rows.observations.tolist() for rows in found] == [
        [[0, 0], [1, 1]],
        [[1, 2]],
        [[2, 0], [3, 0], [2, 1], [2, 2]],
    ]
    assert [rows.policy_of_train.tolist() for rows in found] == [[0, 5], [7], [1, 5, 1, 1]]
    assert [all_transitions(rows, PLAIN).rewards.tolist() for rows in found] == [
        [1.0, 1.0],
        [200.0],
        [10.0, 202.0, 11.0, 100.0],
    ]


def test_each_train_keeps_its_rewards_for_its_own_gamma() -> None:
    rows = recorded([[1.0, 1.0], [1.0, 1.0]], [[0, 1], []], gamma=np.array([0.5, 0.25]))
    for train, gamma in enumerate((0.5, 0.25)):
        rewards = all_transitions(rows, replace(PLAIN, gamma=gamma)).rewards
        assert rewards[train].item() == pytest.approx(1.0 + gamma, rel=1e-6)


# --- against sums over all rewards ----------------------------------------------------------------------------------


@dataclass
class Episode:
    """All lists are ``[steps][trains]``, those of potentials have one more for the beginning; ends are steps."""

    rewards: list[list[float]]
    decides: list[list[bool]]
    potentials: list[list[float]]
    arrives_at: list[int | None]
    stuck_at: list[int | None]
    in_a_team: bool

    @property
    def n_steps(self) -> int:
        return len(self.rewards)

    @property
    def n_trains(self) -> int:
        return len(self.rewards[0])

    def end(self, train: int) -> int:
        """The step after the last one of a train's task."""
        arrival = self.arrives_at[train]
        return self.n_steps if self.in_a_team or arrival is None else arrival + 1

    def decision_steps(self, train: int) -> list[int]:
        over = min(step for step in (self.arrives_at[train], self.stuck_at[train], self.n_steps) if step is not None)
        return [step for step in range(min(over + 1, self.n_steps)) if self.decides[step][train]]

    def reward(self, train: int, step: int, weights: RewardWeights) -> float:
        """What a train gets for a step of its own."""
        now, then = self.potentials[step][train], self.potentials[step + 1][train]
        reward = self.rewards[step][train] + weights.shaping * (weights.gamma * then - now)
        reward += weights.arrival_reward * (self.arrives_at[train] == step)
        return reward - weights.deadlock_penalty * (self.stuck_at[train] == step)

    def with_share(self, train: int, step: int, weights: RewardWeights) -> float:
        others = sum(self.reward(other, step, weights) for other in range(self.n_trains) if other != train)
        return self.reward(train, step, weights) + weights.team_reward * others

    def rows(self, gamma: float) -> EpisodeRows | None:
        recorder = Recorder(2, self.n_trains)  # in the second slot
        recorder.begin(1, TrainSettings(gamma=gamma, in_a_team=self.in_a_team), np.array(self.potentials[0]))
        deciding = [self.decision_steps(train) for train in range(self.n_trains)]
        for step in range(self.n_steps):
            now = decisions([train for train in range(self.n_trains) if step in deciding[train]], step)
            recorder.decide(now._replace(trains=now.trains + self.n_trains))
            events = [[float(at == step) for at in ends] for ends in (self.arrives_at, self.stuck_at)]
            recorder.reward(1, np.array([self.rewards[step], *events, self.potentials[step + 1]]))
        return recorder.finish(1)

    def expected(self, weights: RewardWeights, n_step: int) -> list[tuple]:
        """(step, train, return, discount, next step) of each transition, by sums over all rewards."""
        found = []
        for train in range(self.n_trains):
            steps = self.decision_steps(train)
            for position, step in enumerate(steps):
                follows = position + n_step < len(steps)
                until = steps[position + n_step] if follows else self.end(train)
                total = sum(
                    weights.gamma ** (k - step) * self.with_share(train, k, weights) for k in range(step, until)
                )
                discount = weights.gamma ** (until - step) if follows else 0.0
                found.append((step, train, total, discount, until if follows else None))
        return sorted(found, key=lambda row: row[:2])


@st.composite
def episodes(draw: st.DrawFn, *, only_last: bool = False) -> Episode:
    """Rewards of 0 are frequent; with ``only_last`` the environment gives some in the last step only."""
    n_trains, n_steps = draw(st.integers(1, 3)), draw(st.integers(1, 12))

    def table(values: st.SearchStrategy, rows: int = n_steps) -> list[list]:
        one = st.lists(values, min_size=n_trains, max_size=n_trains)
        return draw(st.lists(one, min_size=rows, max_size=rows))

    rewards = table(st.sampled_from([0.0, 0.0, 0.0, -1.0, -0.25, 2.0]))
    if only_last:
        rewards[:-1] = [[0.0] * n_trains] * (n_steps - 1)
    potentials = [*table(st.sampled_from([0.0, -0.25, -0.5, -1.0])), [0.0] * n_trains]
    event = st.none() | st.integers(0, n_steps - 1)
    arrives_at = [draw(event) for _ in range(n_trains)]
    stuck_at = [draw(event) if arrival is None else None for arrival in arrives_at]
    in_a_team = False if only_last else draw(st.booleans())
    for train, arrival in enumerate(arrives_at):
        for step in range(n_steps if arrival is None else arrival + 1, n_steps):
            potentials[step][train] = 0.0  # rewards of a user's own may go on, but are not the train's any more
    return Episode(rewards, table(st.booleans()), potentials, arrives_at, stuck_at, in_a_team)


def assert_equal(episode: Episode, played_with: float, weights: RewardWeights, n_step: int) -> None:
    rows, expected = episode.rows(played_with), episode.expected(weights, n_step)
    if rows is None:
        assert expected == []
        return
    batch = all_transitions(rows, weights, n_step)
    seen = [(int(step), int(train)) for train, step in rows.observations]
    assert seen == [row[:2] for row in expected]
    for i, (step, train, reward, discount, following) in enumerate(expected):
        assert batch.rewards[i].item() == pytest.approx(reward, rel=1e-5, abs=1e-5)
        assert batch.discounts[i].item() == pytest.approx(discount, rel=1e-6)
        assert batch.actions[i].item() == (2 * train + step) % 5
        assert batch.action_masks[i].tolist() == mask_of(train, step)
        if following is not None:
            assert batch.next_observations[i].tolist() == [train, following]
            assert batch.next_action_masks[i].tolist() == mask_of(train, following)


WEIGHTS = st.builds(
    RewardWeights,
    gamma=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    shaping=st.sampled_from([0.0, 2.0]),
    arrival_reward=st.sampled_from([0.0, 3.0]),
    deadlock_penalty=st.sampled_from([0.0, 1.5]),
)


@given(episode=episodes(), weights=WEIGHTS, n_step=st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_equals_sums_over_the_list_of_all_rewards(episode: Episode, weights: RewardWeights, n_step: int) -> None:
    weights = replace(weights, team_reward=0.3 if episode.in_a_team else 0.0)
    assert_equal(episode, weights.gamma, weights, n_step)


@given(
    episode=episodes(only_last=True), weights=WEIGHTS, n_step=st.integers(1, 4), played_with=st.sampled_from([0, 0.7])
)
@settings(max_examples=100, deadline=None)
def test_with_another_gamma_than_it_was_played_with(
    episode: Episode, weights: RewardWeights, n_step: int, played_with: float
) -> None:
    """Arrivals, deadlocks, shaping and what comes at the end are exact for any gamma."""
    assert_equal(episode, played_with, weights, n_step)


def test_several_rewards_of_an_interval_are_exact_to_the_first_order_in_gamma() -> None:
    """A reward of 1 in each of ten steps."""
    rows = recorded([[1.0]] * 10, [[0], *[[]] * 9], gamma=0.98)
    errors = []
    for change in (0.005, 0.01):
        gamma = 0.98 + change
        wanted = sum(gamma**k for k in range(10))
        errors.append(all_transitions(rows, replace(PLAIN, gamma=gamma)).rewards.item() - wanted)
    assert abs(errors[0]) < 2e-3
    assert errors[1] / errors[0] == pytest.approx(4.0, rel=0.15)  # the error grows with the square of the change


class TestSelecting:
    ROWS = recorded([[float(10 * step + train) for train in range(3)] for step in range(5)],
                    [[0, 1, 2], [0, 2], [1], [0, 1, 2], [2]], policy_of_train=np.array([4, 9, 4]))  # fmt: skip

    @pytest.mark.parametrize("n_step", [1, 2, 3])
    @pytest.mark.parametrize("policy", [4, 9])
    def test_rows_of_a_policy_give_its_transitions(self, policy: int, n_step: int) -> None:
        own = as_values(all_transitions(self.ROWS.of_policy(policy), PLAIN, n_step))
        everything = as_values(all_transitions(self.ROWS, PLAIN, n_step))
        drives = self.ROWS.policy_of_train == policy
        assert own == [row for row, is_own in zip(everything, drives, strict=True) if is_own]

    @pytest.mark.parametrize("n_step", [1, 2, 3])
    @pytest.mark.parametrize("n", range(1, 10))
    def test_two_parts_have_all_transitions_between_them(self, n: int, n_step: int) -> None:
        first, second = self.ROWS.cut(n, n_step)
        assert (first.n_transitions, second.n_transitions) == (n, 10 - n)
        everything = as_values(all_transitions(self.ROWS, PLAIN, n_step))
        assert as_values(all_transitions(first, PLAIN, n_step), first.decided) == everything[:n]
        assert as_values(all_transitions(second, PLAIN, n_step)) == everything[n:]

    def test_no_more_rows_come_along_than_are_needed(self) -> None:
        first, _ = self.ROWS.cut(1, 1)
        assert first.observations.tolist() == [[0, 0], [0, 1]]
        assert (first.decided.tolist(), first.next_row.tolist()) == ([True, False], [1, LOST])


def as_values(batch: object, which: np.ndarray | None = None) -> list[tuple]:
    """The transitions as plain values; next observations only where they count."""
    found = []
    for i in range(len(batch.rewards)) if which is None else np.flatnonzero(which).tolist():  # type: ignore[attr-defined]
        values = {name: value[i].tolist() for name, value in vars(batch).items()}
        if not values["discounts"]:
            del values["next_observations"], values["next_action_masks"]
        found.append(tuple(values.items()))
    return found
