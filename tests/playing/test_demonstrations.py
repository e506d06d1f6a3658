"""Demonstrations: the plan drives, its decisions are marked, and a demonstration can be come back to."""

import numpy as np
import pytest

from reinforcement_learning.playing.episode_rows import NOT_SHOWN, EpisodeRows
from reinforcement_learning.playing.rollout import Learning, Rollout
from reinforcement_learning.playing.train_settings import TrainSettings
from tests.helpers.playing import ListSink, RandomPolicy, play_out
from tests.helpers.rail_envs import sparse_env
from utils.observation.feature_sets import get_feature_set
from utils.observation.observer import Observer
from utils.planning.level_plan import LevelPlan
from utils.simulator.compiled_simulator import CompiledSimulator

SHOWN, OWN = TrainSettings(demonstration=True), TrainSettings(epsilon=1.0)


def level(seed: int) -> CompiledSimulator:
    return CompiledSimulator.from_env(sparse_env(seed, 6, size=25))


def make_rollout(
    sink: ListSink, feature_set: str = "tree_plan", n_slots: int = 1, *, asks_plan: bool = False
) -> Rollout:
    observer = Observer(get_feature_set(feature_set), safe_moves=True)
    return Rollout(observer, [RandomPolicy(0)], 6, n_slots=n_slots, learning=Learning(sink, asks_plan=asks_plan))


@pytest.mark.parametrize("feature_set", ["tree_plan", "tree_routes"])
def test_the_plan_drives_and_what_it_does_is_marked(feature_set: str) -> None:
    sink = ListSink()
    rollout, simulator = make_rollout(sink, feature_set), level(0)
    rollout.start(0, simulator, SHOWN)
    observer = Observer(get_feature_set("tree_plan"), safe_moves=True)  # sees the same and drives itself
    alone = level(0)
    while rollout.playing:
        _, mask = observer.observe(alone.state)
        actions = observer.planned_actions(alone.state, mask)
        assert actions is not None
        choosing = np.count_nonzero(mask, axis=1) > 1
        actions = np.where(choosing, actions, mask.argmax(axis=1))
        rollout.step()
        observer.settle(alone.state, actions)
        alone.step(actions)
        np.testing.assert_array_equal(alone.state.dynamic, simulator.state.dynamic)
    assert sink.all("shown").tolist() == sink.all("actions").tolist()
    assert len(sink.all("actions")) > 50


def test_only_demonstrations_are_marked() -> None:
    """Two levels side by side, one of which is shown; then its place is taken by one that is not."""
    sinks = []
    for settings in ((SHOWN, OWN), (OWN, OWN)):
        sink = ListSink()
        rollout = make_rollout(sink, n_slots=2)
        for slot, of_slot in enumerate(settings):
            rollout.start(slot, level(slot), of_slot)
        play_out(rollout)
        sink_of_next = len(sink.received)
        rollout.start(0, level(2), OWN)
        play_out(rollout)
        assert all((rows.shown == NOT_SHOWN).all() for rows in sink.received[sink_of_next:])
        sinks.append(sink.all("shown") != NOT_SHOWN)
    assert 0.0 < sinks[0].mean() < 1.0
    assert not sinks[1].any()


def test_the_plan_is_asked_where_the_policy_drives() -> None:
    """The same trains do the same; beside it stands what the plan of that moment would have done."""
    alone, asked = ListSink(), ListSink()
    for sink in (alone, asked):
        rollout = make_rollout(sink, asks_plan=sink is asked)
        rollout.start(0, level(0), OWN)
        play_out(rollout)
    assert alone.all("actions").tolist() == asked.all("actions").tolist()
    shown, names = asked.all("shown"), get_feature_set("tree_plan").feature_names
    first = names.index("plan_do_nothing")
    planned = asked.all("observations")[:, first : first + 5]
    possible = planned.any(axis=1) & asked.all("action_masks")[np.arange(len(shown)), planned.argmax(axis=1)]
    assert possible.mean() > 0.5
    assert (shown[possible] == planned.argmax(axis=1)[possible]).all()
    assert 0.05 < (shown != asked.all("actions")).mean() < 1.0


def test_where_there_is_no_plan_the_policy_drives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LevelPlan, "make", lambda plan: False)
    sink = ListSink()
    rollout = make_rollout(sink)
    rollout.start(0, level(0), SHOWN)
    play_out(rollout)
    assert len(sink.all("actions")) > 10
    assert (sink.all("shown") == NOT_SHOWN).all()


def test_a_demonstration_goes_on_where_it_was_interrupted() -> None:
    sink, later = ListSink(), ListSink()
    original = make_rollout(sink, n_slots=2)
    for slot, of_slot in enumerate((SHOWN, OWN)):
        original.start(slot, level(slot), of_slot)
    for _ in range(25):
        original.step()
    random = original.policies[0].random.bit_generator.state
    resumed = make_rollout(later, n_slots=2)
    resumed.replay({slot: (level(slot), of, list(original.history(slot))) for slot, of in enumerate((SHOWN, OWN))})
    for rollout in (original, resumed):
        rollout.policies[0].random.bit_generator.state = random
        play_out(rollout)
    for field in EpisodeRows.__dataclass_fields__:
        np.testing.assert_array_equal(sink.all(field), later.all(field))
