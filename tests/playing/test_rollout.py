"""Rollouts: scores are the environment's own, every decision becomes one row, and episodes can be replayed."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from flatland.envs.rail_env import RailEnv
from flatland.envs.step_utils.states import TrainState

from reinforcement_learning.playing.episode_result import EpisodeResult
from reinforcement_learning.playing.episode_rows import EpisodeRows
from reinforcement_learning.playing.reward_shaping import RewardWeights
from reinforcement_learning.playing.rollout import Learning, Rollout
from reinforcement_learning.playing.train_settings import TrainSettings
from tests.helpers.playing import (
    TIMETABLE,
    ForwardPolicy,
    GreedyDistancePolicy,
    ListSink,
    RandomPolicy,
    begun,
    play,
    play_out,
)
from tests.helpers.rail_envs import EAST, WEST, drawn_env, sparse_env
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.observation.feature_sets import get_feature_set
from utils.observation.observer import Observer
from utils.simulator.simulator import FlatlandSimulator

SHAPING = RewardWeights(0.99, 1.0, 1.0, 0.5)


class Recording:
    """A random policy that remembers what it was shown."""

    def __init__(self, seed: int) -> None:
        self._policy = RandomPolicy(seed)
        self.observations: list[np.ndarray] = []
        self.masks: list[np.ndarray] = []
        self.actions: list[np.ndarray] = []

    def act(self, observations: np.ndarray, action_mask: np.ndarray, epsilon: float = 0.0) -> np.ndarray:
        actions = self._policy.act(observations, action_mask, epsilon)
        self.observations.append(observations.copy())
        self.masks.append(action_mask.copy())
        self.actions.append(actions.copy())
        return actions


def make_env(seed: int, name: str = "Test_0") -> RailEnv:
    return make_rail_env(ENV_CONFIGS[name], seed)


@pytest.mark.parametrize("name", ["Tiny", "Test_0", "Benchmarks_Test_00"])
def test_result_is_that_of_a_plain_environment_with_the_same_actions(name: str) -> None:
    rollout = begun(make_env(5, name), RandomPolicy(1))
    history = rollout.history(0)
    result = play_out(rollout)[0]
    plain, total, done, on_map = make_env(5, name), 0.0, False, set()
    for actions in history:
        assert not done
        _, rewards, dones, _ = plain.step(dict(enumerate(actions.tolist())))
        total += sum(rewards.values())
        done = dones["__all__"]
        on_map |= {a.handle for a in plain.agents if a.current_configuration is not None or a.state == TrainState.DONE}
    assert done
    n_trains = len(plain.agents)
    assert result.score == pytest.approx(total / (plain._max_episode_steps * n_trains))
    assert -1.01 < result.score < 0.5
    assert result.completion == np.mean([agent.state == TrainState.DONE for agent in plain.agents])
    assert result.never_departed == pytest.approx(1 - len(on_map) / n_trains)
    assert result.n_steps == len(history) == plain._elapsed_steps


def test_actions_are_counted_at_decisions_only() -> None:
    policy = Recording(0)
    result = play(make_env(1), policy)
    assert result.action_counts.tolist() == np.bincount(np.concatenate(policy.actions), minlength=5).tolist()
    assert result.n_decisions == result.action_counts.sum() > 0
    assert min(mask.sum(axis=1).min() for mask in policy.masks) > 1


@pytest.mark.parametrize("seed", [1, 2])
def test_every_decision_becomes_exactly_one_row(seed: int) -> None:
    sink, policy = ListSink(), Recording(seed)
    result = play(make_env(seed), policy, learning=Learning(sink))
    assert len(sink.all("actions")) == result.n_decisions
    decided = Counter(
        (row.tobytes(), int(action))
        for rows, actions in zip(policy.observations, policy.actions, strict=True)
        for row, action in zip(rows, actions, strict=True)
    )
    stored = zip(sink.all("observations"), sink.all("actions"), strict=True)
    assert Counter((row.tobytes(), int(action)) for row, action in stored) == decided


@pytest.mark.parametrize("n_step", [1, 3])
def test_transitions_lead_to_decisions_or_to_the_end(n_step: int) -> None:
    sink, policy = ListSink(), Recording(3)
    result = play(make_env(3), policy, learning=Learning(sink))
    batch = sink.transitions(SHAPING, n_step)
    discounts = batch.discounts.numpy()
    follows = discounts > 0
    # each train with a decision ends once, with the last n_step of them
    starts = {row.tobytes() for rows in policy.observations for row in rows}
    assert {row.tobytes() for row in batch.next_observations.numpy()[follows]} <= starts
    assert 0 < np.count_nonzero(~follows) <= n_step * result.n_trains
    steps = np.log(discounts[follows]) / np.log(0.99)
    assert steps == pytest.approx(np.round(steps), abs=1e-3)
    assert steps.min() > n_step - 0.01
    assert batch.next_action_masks.numpy()[follows].sum(axis=1).min() > 1


def test_sum_of_rewards_is_the_score_where_nothing_is_shaped_or_discounted() -> None:
    """Trains that decide from their first possible moment on miss no reward."""
    sink = ListSink()
    shaping = RewardWeights(gamma=1.0, shaping=0.0, arrival_reward=0.0, deadlock_penalty=0.0)
    result = play(make_env(2), ForwardPolicy(), learning=Learning(sink))
    assert sink.transitions(shaping).rewards.sum().item() / result.n_trains == pytest.approx(result.score, rel=1e-5)


def some_arrive() -> RailEnv:
    """Two trains with a track each, and two face to face that never arrive."""
    track = "<------>"
    trains = [(((0, 1), EAST), (0, 7)), (((2, 1), EAST), (2, 4))]
    trains += [(((4, 1), EAST), (4, 7)), (((4, 6), WEST), (4, 0))]
    return drawn_env([track, " " * 8, track, " " * 8, track], trains, max_episode_steps=60)


def test_arrival_is_rewarded_once_for_each_train_that_arrives() -> None:
    sink = ListSink()
    shaping = RewardWeights(gamma=1.0, shaping=0.0, arrival_reward=1000.0, deadlock_penalty=0.0)
    result = play(some_arrive(), ForwardPolicy(), learning=Learning(sink))
    assert result.train_arrived.tolist() == [True, True, False, False]
    assert (sink.transitions(shaping).rewards > 900).sum() == 2


def test_with_a_share_in_the_others_rewards_trains_learn_from_what_comes_after_their_arrival() -> None:
    """A train's last decision then sees the whole episode to its end, whoever arrives when."""
    sums = []
    for team_reward in (0.0, 0.5):
        sink = ListSink()
        shaping = RewardWeights(1.0, shaping=0.0, arrival_reward=0.0, deadlock_penalty=0.0, team_reward=team_reward)
        in_a_team = TrainSettings(in_a_team=team_reward > 0.0)
        play(some_arrive(), ForwardPolicy(), learning=Learning(sink), train_settings=in_a_team)
        batch = sink.transitions(shaping)
        assert (batch.discounts == 0).sum() == 4
        sums.append(batch.rewards.sum().item())
    # of each train's rewards half goes to each of the others as well
    assert sums[0] < 0
    assert sums[1] == pytest.approx(sums[0] * (1 + 0.5 * 3), rel=1e-5)


def head_on() -> RailEnv:
    """Two trains on one track, face to face."""
    return drawn_env([">------<"], [(((0, 1), EAST), (0, 6)), (((0, 6), WEST), (0, 1))], max_episode_steps=60)


def test_deadlocked_trains_do_not_decide_and_pay_once() -> None:
    sink, policy = ListSink(), Recording(0)
    shaping = RewardWeights(gamma=1.0, shaping=0.0, arrival_reward=0.0, deadlock_penalty=1000.0)
    rollout = begun(head_on(), ForwardPolicy(), learning=Learning(sink))
    while not rollout.deadlocked.all():
        rollout.step()
    rollout.policies = [policy]
    result = play_out(rollout)[0]
    assert result.n_steps == 60
    assert result.deadlocked == 1.0
    assert (result.completion, result.never_departed) == (0.0, 0.0)
    assert policy.actions == []
    paid = sink.transitions(shaping).rewards.numpy()
    assert paid[paid < -900] == pytest.approx([-1000, -1000], abs=10)


# Levels of several sizes: two trains, five, ten, and episodes that end long before or after their neighbours'.
LEVELS = [("Tiny", 1), ("Test_0", 2), ("Tiny", 2), ("Test_1", 1), ("Test_0", 3), ("Tiny", 3), ("Test_0", 4)]
MOST_TRAINS = 10


def play_side_by_side(n_envs: int, learning: Learning | None) -> list[EpisodeResult]:
    """Plays all levels on their shortest paths, the next one wherever an environment is free."""
    policy, observer = GreedyDistancePolicy(), Observer(TIMETABLE, safe_moves=False)
    rollout = Rollout(observer, [policy], MOST_TRAINS, n_slots=n_envs, learning=learning)
    waiting, results, numbers = list(enumerate(LEVELS)), {}, {}
    while waiting or rollout.playing:
        for env in rollout.free[: len(waiting)]:
            numbers[env], (name, seed) = waiting.pop(0)
            rollout.start(env, FlatlandSimulator(make_env(seed, name)))
        assert len(rollout.playing) == min(n_envs, len(LEVELS) - len(results))
        for env, result in rollout.step():
            results[numbers.pop(env)] = result
    return [results[number] for number in range(len(LEVELS))]


def assert_same_result(first: EpisodeResult, second: EpisodeResult) -> None:
    for name in EpisodeResult.__dataclass_fields__:
        assert np.array_equal(getattr(first, name), getattr(second, name)), name


class TestSideBySide:
    @pytest.fixture(scope="class")
    def alone(self) -> tuple[list[EpisodeResult], list[ListSink]]:
        """Each level in a rollout of its own, which has as many places as the level has trains."""
        results, sinks = [], []
        for name, seed in LEVELS:
            policy, observer = GreedyDistancePolicy(), Observer(TIMETABLE, safe_moves=False)
            sinks.append(ListSink())
            learning = Learning(sinks[-1])
            results.append(play(make_env(seed, name), policy, observer=observer, learning=learning))
        assert len({result.n_steps for result in results}) > 4
        assert {result.n_trains for result in results} == {2, 5, 10}
        return results, sinks

    @pytest.mark.parametrize("n_envs", [1, 2, 3, 10])
    def test_results_and_rows_are_those_of_each_level_alone(
        self, alone: tuple[list[EpisodeResult], list[ListSink]], n_envs: int
    ) -> None:
        sink, wanted = ListSink(), Counter()
        for result, of_level in zip(play_side_by_side(n_envs, Learning(sink)), zip(*alone, strict=True), strict=True):
            assert_same_result(result, of_level[0])
            wanted += of_level[1].counted()
        assert sink.counted() == wanted

    def test_without_learning_too(self, alone: tuple[list[EpisodeResult], list[ListSink]]) -> None:
        for result, wanted in zip(play_side_by_side(3, None), alone[0], strict=True):
            assert_same_result(result, wanted)

    def test_one_call_of_the_policy_for_all_of_them(self) -> None:
        policy = Recording(0)
        rollout = Rollout(Observer(get_feature_set("tree"), safe_moves=False), [policy], 5, n_slots=4)
        for env in range(4):
            rollout.start(env, FlatlandSimulator(make_env(env)))
        results = play_out(rollout)
        assert len(policy.actions) <= max(result.n_steps for result in results.values())
        assert sum(len(actions) for actions in policy.actions) == sum(r.n_decisions for r in results.values())
        assert max(len(actions) for actions in policy.actions) > 5

    def test_each_episode_has_its_own_epsilon(self) -> None:
        seen = Counter()

        class Asked(Recording):
            def act(self, observations: np.ndarray, action_mask: np.ndarray, epsilon: np.ndarray) -> np.ndarray:
                seen.update(epsilon.tolist())
                return super().act(observations, action_mask)

        rollout = Rollout(Observer(get_feature_set("tree"), safe_moves=False), [Asked(0)], 5, n_slots=3)
        for env, epsilon in ((0, 0.25), (2, 0.75)):
            rollout.start(env, FlatlandSimulator(make_env(env)), TrainSettings(epsilon))
        results = play_out(rollout)
        assert seen == {0.25: results[0].n_decisions, 0.75: results[2].n_decisions}

    def test_too_many_trains_are_refused(self) -> None:
        rollout = Rollout(Observer(get_feature_set("tree"), safe_moves=False), [RandomPolicy(0)], 4, n_slots=2)
        with pytest.raises(ValueError, match="5 trains, but there is room for 4"):
            rollout.start(1, FlatlandSimulator(make_env(1)))
        assert rollout.free == [0, 1]
        assert rollout.step() == []


class TestReplay:
    def rollout(self, policy: RandomPolicy, sink: ListSink | None, n_envs: int) -> Rollout:
        return Rollout(
            Observer(get_feature_set("tree"), safe_moves=False),
            [policy],
            5,
            n_slots=n_envs,
            learning=sink and Learning(sink),
        )

    def test_under_another_action_mask_trains_do_what_they_did(self) -> None:
        """A train that had a choice then and has none now, too."""
        simulators = [FlatlandSimulator(make_env(6)) for _ in range(2)]
        original = self.rollout(RandomPolicy(4), None, 1)
        original.start(0, simulators[0])
        for _ in range(30):
            assert original.step() == []
        observer = Observer(get_feature_set("tree"), safe_moves=False, decision_points="switches")
        resumed = Rollout(observer, [RandomPolicy(4)], 5)
        resumed.replay({0: (simulators[1], TrainSettings(), original.history(0))})
        np.testing.assert_array_equal(simulators[1].state.dynamic, simulators[0].state.dynamic)

    def assert_goes_on(self, begins: Sequence[int | None], steps: int, *, learning: bool = True) -> None:
        """Interrupts episodes after ``steps``; each was begun at its step, where there was None it is never.

        A replayed rollout and the interrupted one then end alike.
        """
        n_envs = len(begins)
        policy, sink, later = RandomPolicy(4), ListSink(), ListSink()
        original = self.rollout(policy, sink if learning else None, n_envs)
        for step in range(steps + 1):
            for env, begin in enumerate(begins):
                if begin == step:
                    original.start(env, FlatlandSimulator(make_env(env + 6)))
            if step < steps:
                assert original.step() == []
        histories = {env: list(original.history(env)) for env in original.playing}
        assert {env: len(history) for env, history in histories.items()} == {
            env: steps - begin for env, begin in enumerate(begins) if begin is not None
        }
        resumed = self.rollout(policy, later if learning else None, n_envs)
        random_state = policy.random.bit_generator.state
        resumed.replay(
            {
                env: (FlatlandSimulator(make_env(env + 6)), TrainSettings(), history)
                for env, history in histories.items()
            }
        )
        assert later.received == []
        assert policy.random.bit_generator.state == random_state
        assert resumed.playing == original.playing

        results = []
        for rollout in (original, resumed):
            policy.random.bit_generator.state = random_state
            whole = {env: rollout.history(env) for env in rollout.playing}
            results.append((play_out(rollout), whole))
        (wanted, whole), (again, whole_again) = results
        assert wanted.keys() == again.keys() == histories.keys()
        for env in wanted:
            assert_same_result(wanted[env], again[env])
            assert np.array_equal(whole[env], whole_again[env])
        if learning:
            for field in EpisodeRows.__dataclass_fields__:
                assert np.array_equal(sink.all(field), later.all(field))

    @pytest.mark.parametrize("steps", [0, 1, 25])
    def test_goes_on_as_if_nothing_had_happened(self, steps: int) -> None:
        self.assert_goes_on([0], steps)

    @pytest.mark.parametrize("begins", [[0, 0, 0], [0, 7, 20], [24, None, 3, 25], [None, 25, None, 0]])
    def test_several_episodes_of_different_lengths(self, begins: Sequence[int | None]) -> None:
        self.assert_goes_on(begins, 25)

    def test_without_learning(self) -> None:
        self.assert_goes_on([0, 11], 20, learning=False)

    def test_of_nothing(self) -> None:
        rollout = self.rollout(RandomPolicy(0), ListSink(), 2)
        rollout.replay({})
        assert rollout.free == [0, 1]


def test_one_call_of_the_policy_serves_all_trains_of_a_step() -> None:
    policy = Recording(0)
    result = play(sparse_env(1, n_agents=10), policy)
    assert len(policy.actions) <= result.n_steps
    assert max(len(actions) for actions in policy.actions) > 1
