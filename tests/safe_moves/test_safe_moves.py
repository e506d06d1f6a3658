"""Trains that only make safe moves never come to a deadlock, whatever they choose among them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.observations import action_mask
from tests.helpers.rail_envs import EAST, FOUR_SPEEDS, ONE_SPEED, WEST, drawn_env, sparse_env
from utils.observation.feature_sets import get_feature_set
from utils.observation.observer import Observer
from utils.safe_moves.safe_moves import NO_MOVE, SAFE_MOVE, UNSAFE_MOVE, SafeMoves, can_move_on
from utils.simulator.compiled_simulator import CompiledSimulator
from utils.simulator.deadlock_check import deadlocked
from utils.simulator.rail_state import RailState
from utils.simulator.state_arrays import COLUMN, DIRECTION, DONE, ROW


def random_actions(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return np.where(mask, random.random(mask.shape), -1.0).argmax(axis=1)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 100_000),
    speeds=st.sampled_from([ONE_SPEED, FOUR_SPEEDS]),
    n_trains=st.integers(2, 20),
    decision_points=st.sampled_from(["every_cell", "switches"]),
    p_level_free=st.sampled_from([0.0, 0.8]),
)
def test_random_play_without_malfunctions_never_ends_in_a_deadlock(
    seed: int, speeds: dict[float, float], n_trains: int, decision_points: str, p_level_free: float
) -> None:
    env = sparse_env(seed, n_trains, speeds=speeds, malfunction_rate=0.0, p_level_free=p_level_free)
    simulator = CompiledSimulator.from_env(env)
    state, observer = (
        simulator.state,
        Observer(get_feature_set("tree"), decision_points=decision_points, safe_moves=True),
    )
    random = np.random.default_rng(seed)
    while not simulator.done:
        _, mask = observer.observe(state)
        assert mask.any(axis=1).all()
        actions, before = random_actions(mask, random), state.dynamic.copy()
        observer.settle(state, actions)
        moving = [h for h in np.flatnonzero((actions >= 1) & (actions <= 3)) if can_move_on(h, state.constants, before)]
        simulator.step(actions)
        assert not deadlocked(state).any()
        # what is settled is what happens: nobody is denied a move that the others' moves relied on
        stayed = (before[[ROW, COLUMN, DIRECTION]] == state.dynamic[[ROW, COLUMN, DIRECTION]]).all(axis=0)
        assert not (stayed & (state.state != DONE))[moving].any()


@pytest.mark.parametrize("n_trains", [10, 70])
def test_answers_do_not_depend_on_what_is_known_from_earlier_steps(n_trains: int) -> None:
    env = sparse_env(3, n_trains, size=40, n_cities=4, malfunction_rate=1 / 100)
    simulator, kept, random = CompiledSimulator.from_env(env), SafeMoves(), np.random.default_rng(0)
    while not simulator.done and simulator.state.elapsed_steps < 120:
        anew = SafeMoves()
        masks = action_mask(simulator.state), action_mask(simulator.state)
        safe = [judge.restrict(simulator.state, mask) for judge, mask in zip((kept, anew), masks, strict=True)]
        np.testing.assert_array_equal(*safe)
        np.testing.assert_array_equal(*masks)
        actions = random_actions(masks[0], random)
        settled = actions.copy(), actions.copy()
        kept.settle(simulator.state, settled[0])
        SafeMoves().settle(simulator.state, settled[1])
        np.testing.assert_array_equal(*settled)
        # now and then not what was settled: knowledge must follow whatever happens
        simulator.step(settled[0] if random.random() < 0.9 else actions)


def test_deadlocks_in_spite_of_malfunctions_are_rare() -> None:
    n_stuck = n_trains = n_stuck_unguarded = 0
    for seed in range(30):
        for guarded in (True, False):
            simulator = CompiledSimulator.from_env(sparse_env(seed, 10, speeds=ONE_SPEED))
            observer = Observer(get_feature_set("tree"), safe_moves=guarded)
            random = np.random.default_rng(seed)
            while not simulator.done:
                _, mask = observer.observe(simulator.state)
                mask[:, 4] &= mask.sum(axis=1) == 1  # who waits at random does not get far
                actions = random_actions(mask, random)
                observer.settle(simulator.state, actions)
                simulator.step(actions)
            stuck = deadlocked(simulator.state).sum()
            n_stuck, n_stuck_unguarded = n_stuck + guarded * stuck, n_stuck_unguarded + (not guarded) * stuck
        n_trains += 10
    assert n_stuck <= 0.01 * n_trains
    assert n_stuck_unguarded > 0.2 * n_trains


def test_only_one_of_two_trains_may_enter_a_single_track() -> None:
    trains = [(((0, 1), EAST), (0, 9)), (((0, 8), WEST), (0, 0))]
    env = drawn_env(["<-------->"], trains)
    env.step({})
    state = RailState.from_env(env)
    mask = action_mask(state)
    safe_moves = SafeMoves()
    safe = safe_moves.restrict(state, mask)
    assert safe[0].tolist() == [NO_MOVE, SAFE_MOVE, NO_MOVE]  # either may go, as long as the other one stays away
    assert safe[1].tolist() == [NO_MOVE, SAFE_MOVE, NO_MOVE]
    actions = np.array([2, 2])
    safe_moves.settle(state, actions)
    assert actions.tolist() == [2, 0]
    env.step({0: 2, 1: 0})
    state.update(env)
    mask = action_mask(state)
    assert mask[1, 2]
    assert safe_moves.restrict(state, mask)[1].tolist() == [NO_MOVE, UNSAFE_MOVE, NO_MOVE]
    assert np.flatnonzero(mask[1]).tolist() == [0]


def test_a_cell_in_which_a_train_arrives_is_free_for_others_only_in_the_next_step() -> None:
    env = drawn_env(["<-------->"], [(((0, 4), EAST), (0, 5)), (((0, 6), WEST), (0, 5))])
    env.step({})
    env.step({0: 2, 1: 2})
    state = RailState.from_env(env)
    assert (state.row == 0).all()
    safe_moves, arrived = SafeMoves(), []
    for _ in range(2):
        actions = np.array([2, 2])
        safe_moves.settle(state, actions)
        assert np.count_nonzero((actions == 2) & (state.state != DONE)) == 1
        env.step(dict(enumerate(actions.tolist())))
        state.update(env)
        arrived.append(int((state.state == DONE).sum()))
    assert arrived == [1, 2]


def test_switched_off_it_judges_but_changes_nothing() -> None:
    trains = [(((0, 1), EAST), (0, 9)), (((0, 8), WEST), (0, 0))]
    env = drawn_env(["<-------->"], trains)
    env.step({})
    env.step({0: 2, 1: 0})
    state = RailState.from_env(env)
    mask = action_mask(state)
    before = mask.copy()
    safe_moves = SafeMoves(enabled=False)
    assert safe_moves.restrict(state, mask)[1, 1] == UNSAFE_MOVE
    np.testing.assert_array_equal(mask, before)
    actions = np.array([2, 2])
    safe_moves.settle(state, actions)
    assert actions.tolist() == [2, 2]


@pytest.mark.parametrize(("direction", "can_follow"), [(EAST, True), (WEST, False)])
def test_a_train_that_comes_the_other_way_cannot_be_followed(direction: int, can_follow: bool) -> None:
    """The train in the next cell may make room, unless it stands nose to nose; then there is nothing but to stand."""
    trains = [(((0, 2), EAST), (0, 9)), (((0, 3), direction), (0, 9 if can_follow else 0))]
    env = drawn_env(["<-------->"], trains)
    env.step({})
    env.step({0: 2, 1: 2})
    state = RailState.from_env(env)
    assert state.column.tolist() == [2, 3]
    mask = action_mask(state)
    SafeMoves().restrict(state, mask)
    assert np.flatnonzero(mask[0]).tolist() == ([2, 4] if can_follow else [4])
