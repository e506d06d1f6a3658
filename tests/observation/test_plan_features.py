"""The plan as trains see it, against the plan's own words; and plans that are kept whatever the trains do."""

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from flatland.envs.rewards import DefaultRewards
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.helpers.rail_envs import EAST, ONE_SPEED, drawn_env, sparse_env
from tests.helpers.stops import line_env
from tests.planning.plan_checks import resource
from utils.levels.packed_level import pack_level, unpack_level
from utils.observation import kept_plans
from utils.observation.feature_sets import get_feature_set
from utils.observation.kept_plans import QUICK, THOROUGH, KeptPlan, KeptPlans, PlanAhead
from utils.observation.observer import Observer
from utils.observation.plan_features import PLAN_FEATURE_NAMES
from utils.planning.level_plan import LevelPlan
from utils.planning.plan_tables import N_ROUNDS, PlanTables
from utils.simulator.compiled_simulator import CompiledSimulator
from utils.simulator.deadlock_check import deadlocked
from utils.simulator.rail_grid import MOVE_FORWARD, STOP_MOVING
from utils.simulator.rail_state import remaining_travel_time
from utils.simulator.state_arrays import DONE, READY_TO_DEPART

FEATURES = get_feature_set("tree_plan")
SEEDS = st.integers(0, 10_000)


def level(seed: int, n_trains: int = 8, malfunction_rate: float = 1 / 100) -> CompiledSimulator:
    return CompiledSimulator.from_env(sparse_env(seed, n_trains, size=25, malfunction_rate=malfunction_rate))


def make_observer(safe_moves: bool = True) -> Observer:
    return Observer(FEATURES, safe_moves=safe_moves)


def kept(observer: Observer, simulator: CompiledSimulator) -> KeptPlan:
    plan = observer._plans.known(simulator.state)
    assert plan is not None
    return plan


def of_plan(observations: np.ndarray) -> dict[str, np.ndarray]:
    """The plan's features by their names, [trains] each."""
    return dict(zip(PLAN_FEATURE_NAMES, observations[:, FEATURES.plan_features].T, strict=True))


def clip(values: Any) -> Any:
    return np.clip(values, -1, 1)


def neighbours(ways: list[np.ndarray], handle: int, place: int, state: Any) -> tuple[Any, Any]:
    """Who comes before and after a train to the ``place``-th cell ahead: (step, handle, opposed), or None."""
    key, step = ways[handle][place - 1]
    others = [
        (to_step, other, to_key % 4 != key % 4)
        for other, way in enumerate(ways)
        for to_key, to_step in way.tolist()
        if other != handle and resource(to_key, state) == resource(key, state)
    ]
    return (
        max((other for other in others if other[0] < step), default=None),
        min((other for other in others if other[0] > step), default=None),
    )


@settings(max_examples=6, deadline=None)
@given(seed=SEEDS)
def test_features_say_what_the_plan_says(seed: int) -> None:
    simulator, observer = level(seed, malfunction_rate=0.0), make_observer()
    state = simulator.state
    features = of_plan(observer.observe(state)[0])
    plan = kept(observer, simulator).plan
    ways, arrivals, actions = plan.ways(), plan.arrivals, plan.actions()
    planned = np.array([len(way) > 0 for way in ways])
    assert features["plan_has_plan"].tolist() == planned.tolist()
    names = ("do_nothing", "left", "forward", "right", "stop")
    assert [names[action] for action in actions] == [
        name for t in range(state.n_trains) for name in names if features[f"plan_{name}"][t] == 1
    ]
    late = state.latest_arrival - np.where(planned, arrivals, 0)
    for handle in np.flatnonzero(planned):
        assert features["plan_arrival"][handle] == pytest.approx(clip(arrivals[handle] / state.max_episode_steps))
        assert features["plan_slack"][handle] == pytest.approx(clip(late[handle] / 30))
        delay = arrivals[handle] - remaining_travel_time(state)[handle]
        assert features["plan_delay_ahead"][handle] == pytest.approx(clip(delay / 30))
        for place in (1, 2, 4, 8):
            if place > len(ways[handle]):
                continue
            before, after = neighbours(ways, handle, place, state)
            for name, other in (("before", before), ("after", after)):
                own = [features[f"plan_cell_{place}_{name}{of}"][handle] for of in ("", "_slack", "_opposed")]
                expected = (1.0, clip(late[other[1]] / 30), float(other[2])) if other else (0.0, 0.0, 0.0)
                assert own == pytest.approx(expected)


def test_waits_and_ways_of_trains_on_the_map() -> None:
    env = sparse_env(5, 14, size=25, speeds=ONE_SPEED, malfunction_rate=0.0)
    simulator, observer = CompiledSimulator.from_env(env), make_observer()
    seen = []
    while not simulator.done:
        observations, mask = observer.observe(simulator.state)
        plan = kept(observer, simulator)
        ways = plan.plan.ways()
        features = of_plan(observations)
        for handle in np.flatnonzero((simulator.state.row >= 0) & (simulator.state.state != DONE)):
            now, step = simulator.state.elapsed_steps, ways[handle][1][1]
            # trains of full speed can go on in each step
            assert features["plan_wait"][handle] == pytest.approx(clip((step - now - 1) / 20))
            onward = [features[f"plan_way_{name}"][handle] for name in ("left", "forward", "right")]
            action = plan.actions[handle]
            assert sum(onward) == 1
            assert action == STOP_MOVING or onward[action - 1] == 1
            seen.append(action)
        actions = observer.planned_actions(simulator.state, mask)
        observer.settle(simulator.state, actions)
        simulator.step(actions)
    assert {STOP_MOVING, MOVE_FORWARD} <= set(seen)


@settings(max_examples=8, deadline=None)
@given(seed=SEEDS, random_share=st.sampled_from([0.0, 0.02, 0.3]))
def test_plans_are_kept_and_made_anew_whatever_trains_do(seed: int, random_share: float) -> None:
    """Nobody comes into a deadlock, and by the moves of the mask all is planned again in the end."""
    simulator, observer = level(seed, n_trains=14, malfunction_rate=0.0), make_observer()
    state, random, without, n_steps = simulator.state, np.random.default_rng(seed), 0, 0
    while not simulator.done:
        observations, mask = observer.observe(state)
        assert np.abs(observations).max() <= 1.0
        assert mask.any(axis=1).all()
        actions = observer.planned_actions(state, mask)
        if actions is None:
            without += 1
            assert not observations[:, FEATURES.plan_features].any()
            actions = mask.argmax(axis=1)
        elif random_share == 0.0:
            choosing = np.count_nonzero(mask, axis=1) > 1
            assert (actions == kept(observer, simulator).actions)[choosing].all()  # no planned move is ruled out
        drawn = np.where(mask, random.random(mask.shape), -1.0).argmax(axis=1)
        actions = np.where(random.random(len(actions)) < random_share, drawn, actions)
        observer.settle(state, actions)
        simulator.step(actions)
        assert not deadlocked(state).any()
        n_steps += 1
    assert without <= (0 if random_share == 0.0 else n_steps / 2)


@pytest.mark.parametrize("packed", [False, True])
def test_plans_go_by_the_rewards_of_their_level(packed: bool) -> None:
    """Where a stop that is passed by costs nothing the plan does not stop, also in a level from another process."""
    arrivals = []
    for rewards in (DefaultRewards(), DefaultRewards(intermediate_not_served_penalty=0.0)):
        env = line_env([((0, 4), EAST)], times=[(20, 15)])
        env.rewards = rewards
        simulator, observer = CompiledSimulator.from_env(env), make_observer()
        if packed:
            simulator = unpack_level(pack_level(simulator))
        observer.observe(simulator.state)
        arrivals.append(int(kept(observer, simulator).plan.arrivals[0]))
    assert arrivals[0] > 15 > arrivals[1]


def test_who_comes_before_its_turn_leaves_the_plan() -> None:
    """It keeps to its way, but times that keep the order would be looked for without an end."""
    env = drawn_env((">-----<",), [(((0, 2), EAST), (0, 5)), (((0, 1), EAST), (0, 4))], max_episode_steps=60)
    simulator = CompiledSimulator.from_env(env)
    plan = LevelPlan(simulator.state)
    assert plan.make()
    ways = plan.ways()
    shared = ways[0][0][0]  # where the train in front starts, and the other one passes
    steps = [int(way[way[:, 0] == shared, 1][0]) for way in ways]
    intruder = int(np.argmax(steps))
    actions = np.zeros(2, dtype=np.int64)
    actions[intruder] = MOVE_FORWARD
    while simulator.state.column[intruder] != 2:
        assert plan.is_in_order
        simulator.step(actions)
        assert plan.follow()
    assert not plan.is_in_order


def test_plans_need_no_clock_and_do_not_meet() -> None:
    """Levels side by side are observed as one after the other, and a level that begins again is planned again."""
    together, random = make_observer(), np.random.default_rng(0)
    simulators = [level(1), level(2)]
    told: list[list[bytes]] = [[], []]
    actions: list[list[np.ndarray]] = [[], []]
    for _ in range(40):
        for number, simulator in enumerate(simulators):
            observations, mask = together.observe(simulator.state)
            told[number].append(observations.tobytes())
            actions[number].append(np.where(mask, random.random(mask.shape), -1.0).argmax(axis=1))
            together.settle(simulator.state, actions[number][-1])
            simulator.step(actions[number][-1])
    for number, seed in enumerate((1, 2)):
        alone, simulator = make_observer(), level(seed)
        for step in range(40):
            assert alone.observe(simulator.state)[0].tobytes() == told[number][step]
            assert alone.observe(simulator.state)[0].tobytes() == told[number][step]  # to look twice changes nothing
            simulator.step(actions[number][step])


def test_a_plan_goes_with_its_level() -> None:
    plans, simulator = KeptPlans(), level(0)
    plan = plans.keep_up(simulator.state)
    assert plan is not None
    gone = weakref.ref(plan.plan)
    gc.disable()
    try:
        del plan, simulator
        assert gone() is None
    finally:
        gc.enable()


@settings(max_examples=6, deadline=None)
@given(seed=SEEDS, n_trains=st.integers(1, 12), with_stops=st.booleans())
def test_a_plan_made_ahead_is_the_one_that_would_be_made(seed: int, n_trains: int, with_stops: bool) -> None:
    """To the last number: what is observed and planned is the same in the whole episode."""
    stops = {"n_cities": 3, "line_length": 3} if with_stops else {}
    try:
        env = sparse_env(seed, n_trains, size=25, malfunction_rate=1 / 20, **stops)
    except IndexError:  # the map has come to hold fewer stations than lines have
        assume(False)
    told, planned_here = [], []
    for ahead in (False, True):
        simulator, observer = CompiledSimulator.from_env(env), Observer(FEATURES, safe_moves=True, plan_rounds=QUICK)
        assert observer.plan_ahead == PlanAhead(QUICK)
        if ahead:
            observer.plan_ahead(simulator.state)
            simulator = unpack_level(pack_level(simulator))
            assert simulator.state.plan_ahead
        seen, random = [], np.random.default_rng(seed)
        with pytest.MonkeyPatch.context() as patch:
            made = noting(patch, LevelPlan, "make")
            while not simulator.done:
                observations, mask = observer.observe(simulator.state)
                seen.append(observations.tobytes() + mask.tobytes())
                actions = np.where(mask, random.random(mask.shape), -1.0).argmax(axis=1)
                if simulator.state.elapsed_steps % 4:
                    planned = observer.planned_actions(simulator.state, mask)
                    actions = actions if planned is None else planned
                observer.settle(simulator.state, actions)
                simulator.step(actions)
        told.append(seen)
        planned_here.append(len(made))
    assert told[0] == told[1]
    assert planned_here[0] == planned_here[1] + 1


def noting(patch: pytest.MonkeyPatch, of: type, name: str) -> list[object]:
    """The results of a method, of all calls from now on."""
    results: list[object] = []
    method = getattr(of, name)

    def noted(*arguments: object) -> object:
        results.append(method(*arguments))
        return results[-1]

    patch.setattr(of, name, noted)
    return results


def test_a_plan_made_ahead_with_other_rounds_is_not_taken() -> None:
    simulator, players = level(3), make_observer()
    assert players.plan_ahead == PlanAhead(THOROUGH)
    PlanAhead(QUICK)(simulator.state)
    players.observe(simulator.state)
    plan = kept(players, simulator)
    assert PlanTables(*plan.plan.tables).counts[N_ROUNDS] == THOROUGH.first * 8


def test_levels_that_cannot_be_planned_have_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_: Any) -> LevelPlan:
        raise ValueError("the level is too large to be planned")

    monkeypatch.setattr(kept_plans, "LevelPlan", too_large)
    simulator, observer = level(0), make_observer()
    PlanAhead(THOROUGH)(simulator.state)
    assert simulator.state.plan_ahead == b""
    for _ in range(5):
        observations, mask = observer.observe(simulator.state)
        assert not observations[:, FEATURES.plan_features].any()
        assert observer.planned_actions(simulator.state, mask) is None
        actions = mask.argmax(axis=1)
        observer.settle(simulator.state, actions)
        simulator.step(actions)


def test_where_only_the_plan_is_safe_nobody_may_leave_it() -> None:
    simulator, observer = level(3), make_observer()
    while not (simulator.state.state == READY_TO_DEPART).any():
        simulator.step(np.zeros(8, dtype=np.int64))
    observer.observe(simulator.state)
    plan = kept(observer, simulator)
    possible = np.ones((8, 5), dtype=bool)
    mask = possible.copy()
    plan.allow_moves(simulator.state, possible, mask, others_are_safe=False)
    for handle, departs in enumerate(simulator.state.state == READY_TO_DEPART):
        assert set(np.flatnonzero(mask[handle])) == ({0, 4, int(plan.actions[handle])} if departs else set(range(5)))
