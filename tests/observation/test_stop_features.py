"""What trains see of their stops: in features of their own, and in those that lead to the next stop."""

import numpy as np

from tests.helpers.observations import observe
from tests.helpers.rail_envs import EAST, drawn_env
from tests.helpers.stops import line_env, sparse_env_with_stops, with_stops
from utils.observation.feature_sets import FEATURE_SETS, get_feature_set
from utils.observation.observer import Observer
from utils.observation.route_features import least_detour_actions
from utils.simulator.rail_grid import MOVE_FORWARD, MOVE_LEFT, STOP_MOVING
from utils.simulator.rail_state import RailState

FEATURES = get_feature_set("tree_routes_stops")


def seen(state: RailState) -> dict[str, float]:
    """The features of the first train by name."""
    features, _ = observe(state, FEATURES)
    return dict(zip(FEATURES.feature_names, features[0].tolist(), strict=True))


def stop_features(state: RailState) -> list[float]:
    return [round(value, 4) for value in list(seen(state).values())[FEATURES.stop_features]]


def test_stop_features() -> None:
    env = line_env([((0, 3), EAST)], [((0, 5), EAST)], times=[(10, 9), (20, 12)])
    state = RailState.from_env(env)
    # of 100 steps: 2 to the first stop, 8 to spare, 9 until it may depart there; two stops to serve
    assert stop_features(state) == [1.0, 0.0, 0.02, 0.08, 0.09, round(2 / 6, 4)]
    for _ in range(4):
        env.step({0: MOVE_FORWARD})
    state.update(env)
    assert stop_features(state) == [1.0, 1.0, 0.0, 0.06, 0.05, round(2 / 6, 4)]
    env.step({0: STOP_MOVING})
    state.update(env)
    assert stop_features(state) == [1.0, 1.0, 0.02, 0.13, 0.04, round(1 / 6, 4)]
    assert stop_features(RailState.from_env(drawn_env(["<--->"], [(((0, 1), EAST), (0, 3))]))) == [0.0] * 6


def test_stop_features_follow_those_of_the_routes() -> None:
    routes = FEATURE_SETS["tree_routes"]
    assert FEATURES.feature_names[: routes.n_features] == routes.feature_names
    assert FEATURES.route_features == routes.route_features
    assert FEATURES.stop_features == slice(routes.n_features, FEATURES.n_features)
    assert routes.stop_features is None


def test_the_other_features_lead_to_the_next_stop() -> None:
    drawing = ["     /--\\   ", "     |  |   ", "<----Y--A-->"]
    switches = {"Y": ("EW", "NW"), "A": ("EW", "NE")}
    to_target = drawn_env(drawing, [(((2, 5), EAST), (2, 10))], switches=switches)
    env = with_stops(drawn_env(drawing, [(((2, 5), EAST), (2, 10))], switches=switches), {0: [[((0, 6), EAST)]]})
    for level, best in ((to_target, MOVE_FORWARD), (env, MOVE_LEFT)):
        state = RailState.from_env(level)
        features, mask = observe(state, FEATURES)
        assert least_detour_actions(features[:, FEATURES.route_features], np.ones_like(mask)).tolist() == [best]
        names = seen(state)
        assert (names["left_distance_change"] < 0) == (best == MOVE_LEFT)
        # the nearest of all nodes, at the stop or the target, is at distance 0
        assert names["left.to_target" if best == MOVE_LEFT else "forward.to_target"] == 0


def test_features_of_trains_that_decide_are_the_same_alone() -> None:
    state = RailState.from_env(sparse_env_with_stops(3))
    observer = Observer(FEATURES, safe_moves=True)
    features, mask = observer.observe(state)
    deciding = mask.sum(axis=1) > 1
    some, _ = observer.observe(state, deciding_only=True)
    np.testing.assert_array_equal(some[deciding], features[deciding])
