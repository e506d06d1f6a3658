"""Rollouts: scores are the environment's own, every decision becomes one transition, and episodes can be replayed."""

from collections import Counter

import numpy as np
import pytest
from flatland.envs.rail_env import RailEnv
from flatland.envs.step_utils.states import TrainState
from rail_envs import EAST, WEST, drawn_env, sparse_env

from reinforcement_learning.heuristics import ForwardPolicy, RandomPolicy
from reinforcement_learning.reward_shaping import RewardShaping
from reinforcement_learning.rollout import Learning, Rollout
from reinforcement_learning.transitions import Transitions
from utils.env_configs import ENV_CONFIGS, make_rail_env
from utils.observation_utils import Observer
from utils.simulator import FlatlandSimulator

SHAPING = RewardShaping(gamma=0.99)


class ListSink:
    """Keeps transitions as they come."""

    def __init__(self) -> None:
        self.received: list[Transitions] = []

    def add(self, transitions: Transitions) -> None:
        self.received.append(transitions)

    def all(self, field: str) -> np.ndarray:
        return np.concatenate([getattr(transitions, field) for transitions in self.received])


class Recording:
    """A random policy that remembers what it was shown."""

    def __init__(self, seed: int) -> None:
        self._policy = RandomPolicy(seed)
        self.observations: list[np.ndarray] = []
        self.masks: list[np.ndarray] = []
        self.actions: list[np.ndarray] = []

    def act(self, observations: np.ndarray, action_mask: np.ndarray, epsilon: float = 0.0) -> np.ndarray:
        actions = self._policy.act(observations, action_mask)
        self.observations.append(observations.copy())
        self.masks.append(action_mask.copy())
        self.actions.append(actions.copy())
        return actions


def make_env(seed: int, name: str = "Test_0") -> RailEnv:
    return make_rail_env(ENV_CONFIGS[name], seed)


@pytest.mark.parametrize("name", ["Tiny", "Test_0", "Round2_Test_00"])
def test_result_is_that_of_a_plain_environment_with_the_same_actions(name: str) -> None:
    rollout = Rollout(FlatlandSimulator(make_env(5, name)), Observer(), RandomPolicy(1))
    result = rollout.play()
    plain, total, done, on_map = make_env(5, name), 0.0, False, set()
    for actions in rollout.history:
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
    assert result.n_steps == len(rollout.history) == plain._elapsed_steps


def test_actions_are_counted_at_decisions_only() -> None:
    policy = Recording(0)
    result = Rollout(FlatlandSimulator(make_env(1)), Observer(), policy).play()
    assert result.action_counts.tolist() == np.bincount(np.concatenate(policy.actions), minlength=5).tolist()
    assert result.n_decisions == result.action_counts.sum() > 0
    assert min(mask.sum(axis=1).min() for mask in policy.masks) > 1


def test_without_learning_there_is_nothing_to_write_with() -> None:
    rollout = Rollout(FlatlandSimulator(make_env(1)), Observer(), RandomPolicy(1))
    rollout.play()
    assert rollout._learning is None
    assert not any(isinstance(value, Learning) or hasattr(value, "add") for value in vars(rollout).values())


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("seed", [1, 2])
def test_every_decision_becomes_exactly_one_transition(seed: int, n_step: int) -> None:
    sink, policy = ListSink(), Recording(seed)
    simulator = FlatlandSimulator(make_env(seed))
    result = Rollout(simulator, Observer(), policy, learning=Learning(sink, SHAPING, n_step)).play()
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
    rollout = Rollout(FlatlandSimulator(make_env(3)), Observer(), policy, learning=Learning(sink, SHAPING, n_step))
    rollout.play()
    discounts = sink.all("discounts")
    follows = discounts > 0
    # each train with a decision ends once, with the last n_step of them
    starts = {row.tobytes() for rows in policy.observations for row in rows}
    assert {row.tobytes() for row in sink.all("next_observations")[follows]} <= starts
    assert 0 < np.count_nonzero(~follows) <= n_step * rollout.state.n_trains
    steps = np.log(discounts[follows]) / np.log(0.99)
    assert steps == pytest.approx(np.round(steps), abs=1e-3)
    assert steps.min() > n_step - 0.01
    assert sink.all("next_action_masks")[follows].sum(axis=1).min() > 1


def test_sum_of_rewards_is_the_score_where_nothing_is_shaped_or_discounted() -> None:
    """Trains that decide from their first possible moment on miss no reward."""
    sink = ListSink()
    shaping = RewardShaping(gamma=1.0, shaping=0.0, arrival_reward=0.0, deadlock_penalty=0.0)
    rollout = Rollout(FlatlandSimulator(make_env(2)), Observer(), ForwardPolicy(), learning=Learning(sink, shaping))
    result = rollout.play()
    assert sink.all("rewards").sum() / rollout.state.n_trains == pytest.approx(result.score, rel=1e-5)


def test_arrival_is_rewarded_once_for_each_train_that_arrives() -> None:
    for seed in range(20):
        sink = ListSink()
        shaping = RewardShaping(gamma=1.0, shaping=0.0, arrival_reward=1000.0, deadlock_penalty=0.0)
        env = make_env(seed, "Tiny")
        result = Rollout(FlatlandSimulator(env), Observer(), ForwardPolicy(), learning=Learning(sink, shaping)).play()
        assert np.count_nonzero(sink.all("rewards") > 900) == round(result.completion * len(env.agents))
        if result.completion > 0:
            return
    pytest.fail("no train has arrived on any level")


def head_on() -> RailEnv:
    """Two trains on one track, face to face."""
    return drawn_env([">------<"], [(((0, 1), EAST), (0, 6)), (((0, 6), WEST), (0, 1))], max_episode_steps=60)


def test_deadlocked_trains_do_not_decide_and_pay_once() -> None:
    sink, policy = ListSink(), Recording(0)
    shaping = RewardShaping(gamma=1.0, shaping=0.0, arrival_reward=0.0, deadlock_penalty=1000.0)
    rollout = Rollout(FlatlandSimulator(head_on()), Observer(), ForwardPolicy(), learning=Learning(sink, shaping))
    while not rollout.deadlocked.all():
        rollout.step()
    rollout.policy = policy
    result = rollout.play()
    assert result.n_steps == 60
    assert result.deadlocked == 1.0
    assert (result.completion, result.never_departed) == (0.0, 0.0)
    assert policy.actions == []
    paid = sink.all("rewards")
    assert paid[paid < -900] == pytest.approx([-1000, -1000], abs=10)


class TestReplay:
    @pytest.mark.parametrize("n_step", [1, 3])
    @pytest.mark.parametrize("steps", [0, 1, 25])
    def test_goes_on_as_if_nothing_had_happened(self, steps: int, n_step: int) -> None:
        policy, sink, later = RandomPolicy(4), ListSink(), ListSink()
        original = Rollout(FlatlandSimulator(make_env(6)), Observer(), policy, learning=Learning(sink, SHAPING, n_step))
        for _ in range(steps):
            original.step()
        before = len(sink.received)
        resumed = Rollout(FlatlandSimulator(make_env(6)), Observer(), policy, learning=Learning(later, SHAPING, n_step))
        random_state = policy._random.bit_generator.state
        resumed.replay(original.history)
        assert later.received == []
        assert policy._random.bit_generator.state == random_state

        result = original.play()
        policy._random.bit_generator.state = random_state
        again = resumed.play()
        assert np.array_equal(original.history, resumed.history)
        assert again.action_counts.tolist() == result.action_counts.tolist()
        assert (again.score, again.completion, again.deadlocked) == (result.score, result.completion, result.deadlocked)
        sink.received = sink.received[before:]
        for field in Transitions.__dataclass_fields__:
            assert np.array_equal(sink.all(field), later.all(field))

    def test_without_learning(self) -> None:
        original = Rollout(FlatlandSimulator(make_env(7)), Observer(), RandomPolicy(1))
        original.play()
        resumed = Rollout(FlatlandSimulator(make_env(7)), Observer(), RandomPolicy(2))
        resumed.replay(original.history)
        assert resumed.done
        assert resumed.result().score == original.result().score


def test_one_call_of_the_policy_serves_all_trains_of_a_step() -> None:
    policy = Recording(0)
    env = sparse_env(1, n_agents=10)
    rollout = Rollout(FlatlandSimulator(env), Observer(), policy)
    result = rollout.play()
    assert len(policy.actions) <= result.n_steps
    assert max(len(actions) for actions in policy.actions) > 1
