"""Departure delays and other effects: the compiled simulator against the flatland-rl that is installed."""

import pickle
from typing import Any

import numpy as np
import pytest
from flatland.core.effects_generator import EffectsGenerator, MultiEffectsGeneratorWrapped
from flatland.envs.agent_utils import EnvAgent
from flatland.envs.malfunction_effects_generators import (
    ConditionalMalfunctionEffectsGenerator,
    IntermediateStopMalfunctionEffectsGenerator,
    MalfunctionEffectsGenerator,
    condition_stopped_cells_and_range,
    condition_stopped_intermediate_and_range,
    make_multi_malfunction_condition,
    on_map_state_condition,
)
from flatland.envs.malfunction_generators import NBR_CHACHED_RAND, MalfunctionParameters, ParamMalfunctionGen
from flatland.envs.persistence import RailEnvPersister
from flatland.envs.rail_env import RailEnv
from flatland.envs.record_steps_effects_generator import RecordStepsEffectsGenerator
from flatland.envs.rewards import ECML2026Rewards
from flatland.envs.step_utils.states import TrainState
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.helpers.rail_envs import EAST, NORTH, SOUTH, WEST, drawn_env, sparse_env
from tests.helpers.simulator_equality import assert_same_in_play
from tests.helpers.simulator_lockstep import add_stops, choose_actions, play_both, shortest_ways
from utils.levels.packed_level import UnpackableLevelError, pack_level, unpack_level
from utils.simulator.compiled_simulator import CompiledSimulator
from utils.simulator.unsupported_level import UnsupportedLevel

ALL_CELLS = [(row, column) for row in range(30) for column in range(30)]


def level(seed: int, effects: EffectsGenerator | None = None, **options: Any) -> RailEnv:
    """Trains with stops on their way, in the rewards of ECML 2026; ``effects`` replace all that the level has."""
    env = sparse_env(seed, n_cities=3, speeds={1.0: 1.0}, rewards=ECML2026Rewards(), **options)
    add_stops(env, shortest_ways(env), np.random.default_rng(seed))
    if effects is not None:
        env.effects_generator = effects
    return env


def departure_delays(rate: float = 0.5, shortest: int = 2, longest: int = 5) -> EffectsGenerator:
    return IntermediateStopMalfunctionEffectsGenerator(rate, shortest, longest)


def breakdowns(rate: float = 1 / 30, shortest: int = 5, longest: int = 15) -> MalfunctionEffectsGenerator:
    return MalfunctionEffectsGenerator(ParamMalfunctionGen(MalfunctionParameters(rate, shortest, longest)))


def conditional(condition: Any, rate: float = 0.3, **options: Any) -> EffectsGenerator:
    return ConditionalMalfunctionEffectsGenerator(rate, 1, 8, condition=condition, **options)


def broken_or_late(agent: EnvAgent, elapsed_steps: int) -> bool:
    """A condition of one's own that looks at nearly all that changes."""
    if agent.malfunction_handler.in_malfunction or agent.malfunction_handler.num_malfunctions > 2:
        return agent.handle in (1, 3)
    before, now = agent.old_configuration, agent.current_configuration
    turned = before is not None and now is not None and before[1] != now[1]
    runs = agent.speed_counter.speed == 1 and agent.state == TrainState.MOVING
    arrived = agent.arrival_time is not None and agent.target_configuration in agent.targets
    return turned or arrived or (runs and elapsed_steps > agent.latest_arrival) or elapsed_steps % 7 == agent.handle


CONDITIONS = {
    "none": lambda: None,
    "on the map": lambda: on_map_state_condition,
    "at an intermediate stop": lambda: condition_stopped_intermediate_and_range(0, 10**9),
    "in a range of steps": lambda: condition_stopped_intermediate_and_range(10, 50),
    "cells are disrupted": lambda: condition_stopped_cells_and_range(10, 80, ALL_CELLS[::2]),
    "one's own": lambda: broken_or_late,
    "one's own or another": lambda: make_multi_malfunction_condition(
        [lambda agent, _: agent.handle == 2, broken_or_late]
    ),
    "no cell": lambda: condition_stopped_cells_and_range(0, 100, []),
    "one of several": lambda: make_multi_malfunction_condition(
        [
            condition_stopped_cells_and_range(10, 30, {(row, column) for row, column in ALL_CELLS if row > 12}),
            make_multi_malfunction_condition([condition_stopped_intermediate_and_range(40, 1000)]),
        ]
    ),
}

effect_kinds = st.one_of(
    st.builds(departure_delays, st.sampled_from([0.0, 0.1, 5.0]), st.integers(0, 4), st.sampled_from([4, 5, 35, 36])),
    st.builds(breakdowns, st.sampled_from([0.0, 1 / 100, 1 / 10]), st.just(3), st.sampled_from([3, 4, 10, 18, 19])),
    st.builds(
        lambda name, rate, options: conditional(CONDITIONS[name](), rate, **options),
        st.sampled_from(sorted(CONDITIONS)),
        st.sampled_from([0.02, 0.5]),
        st.fixed_dictionaries(
            {
                "earliest_malfunction": st.sampled_from([None, 0, 25]),
                "max_num_malfunctions": st.sampled_from([None, 0, 7]),
            }
        ),
    ),
    st.builds(EffectsGenerator),
    st.builds(RecordStepsEffectsGenerator),
)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 100_000), effects=st.lists(effect_kinds, max_size=4), random_share=st.sampled_from([0.2, 0.6])
)
def test_equal_with_any_effects_in_any_order(seed, effects, random_share) -> None:
    play_both(level(seed, MultiEffectsGeneratorWrapped(*effects)), random_share, seed, halting=0.5)


@pytest.mark.parametrize("name", sorted(CONDITIONS))
def test_equal_under_each_condition(name) -> None:
    for seed in range(2):
        effects = MultiEffectsGeneratorWrapped(conditional(CONDITIONS[name]()), breakdowns(1 / 200))
        env = level(seed, effects)
        simulator = play_both(env, 0.2, seed, halting=0.7)
        begun = effects.effects_generators[0]._num_malfunctions
        assert (begun > 0) == (name != "no cell")
        assert simulator.effects.effects[-1].tolist()[0] == begun


def test_the_effects_of_the_challenge() -> None:
    """Departure delays before breakdowns, as flatland composes them, at the rates of the challenge."""
    delays = departure_delays(0.1)
    options = {"n_agents": 30, "size": 40, "n_cities": 3, "line_length": 3, "malfunction_rate": 1 / 540}
    env = sparse_env(6, rewards=ECML2026Rewards(), effects_generator=delays, **options)
    assert isinstance(env.effects_generator, MultiEffectsGeneratorWrapped)
    play_both(env, 0.05, halting=0.7)
    assert delays._num_malfunctions > 5


def test_alternative_cells_of_a_stop_delay_too() -> None:
    ring = ["/----\\", "|    |", "L----J", "<---> "]
    starts = [((0, 1), EAST), ((0, 4), EAST), ((1, 5), SOUTH), ((2, 2), WEST), ((1, 0), NORTH)]
    for seed in range(4):
        delays = departure_delays(1.0)
        env = drawn_env(ring, [(start, (3, 2)) for start in starts])
        env.rewards, env.effects_generator = ECML2026Rewards(), MultiEffectsGeneratorWrapped(delays, breakdowns())
        add_stops(env, [starts] * len(starts), np.random.default_rng(seed))
        play_both(env, 0.2, seed, halting=0.5)
        assert delays._num_malfunctions > 0


@pytest.mark.parametrize("same", ["effect", "generator"])
def test_what_comes_twice_draws_and_counts_as_one(same) -> None:
    if same == "effect":
        effect = conditional(on_map_state_condition, 0.1, max_num_malfunctions=9)
        effects = [effect, departure_delays(), effect]
    else:
        first, second = breakdowns(), breakdowns()
        second.malfunction_generator = first.malfunction_generator
        effects = [first, departure_delays(), second]
    play_both(level(3, MultiEffectsGeneratorWrapped(*effects)), 0.2, halting=0.5)


@pytest.mark.parametrize("drawn_before", [False, True])
def test_numbers_begin_again_after_a_million(drawn_before) -> None:
    effects = [breakdowns(), conditional(None, 1 / 30), departure_delays()]
    env = level(2, MultiEffectsGeneratorWrapped(*effects))
    for generator in (effects[0].malfunction_generator, effects[1]._malfunction_generator):
        generator._rand_idx = NBR_CHACHED_RAND - 200
        if drawn_before:
            generator.generate_rand_numbers(env.np_random)
    assert play_both(env, 0.2, halting=0.5).state.n_malfunctions.sum() > 20
    assert effects[0].malfunction_generator._rand_idx < NBR_CHACHED_RAND // 2


@pytest.mark.parametrize(
    "make",
    [
        lambda: level(1, EffectsGenerator()),
        lambda: level(1, MultiEffectsGeneratorWrapped()),
        lambda: level(1, effects_generator=EffectsGenerator()),
        lambda: level(1, effects_generator=EffectsGenerator(on_episode_start=lambda: None)),
        lambda: level(1, record_steps=True),
    ],
    ids=["empty", "none", "empty and breakdowns", "at the start", "recording"],
)
def test_effects_that_do_nothing_are_no_obstacle(make) -> None:
    simulator = play_both(make(), 0.3)
    assert simulator.effects.effects.size == 0  # malfunctions, if any, are drawn ahead


def test_the_environment_is_left_as_it_is() -> None:
    env = level(1, MultiEffectsGeneratorWrapped(departure_delays(), breakdowns()))
    for _ in range(20):
        env.step(dict(enumerate(choose_actions(env, np.random.default_rng(0), 0.4).tolist())))
    before = pickle.dumps((env.agents, env.np_random.get_state(), sorted(env.rewards._proxy.arrivals)))
    effects = [vars(effect) for effect in env.effects_generator.effects_generators]
    before_effects = str(effects)
    simulator = CompiledSimulator.from_env(env)
    while not simulator.done:
        simulator.step([2] * 10)
    after = pickle.dumps((env.agents, env.np_random.get_state(), sorted(env.rewards._proxy.arrivals)))
    assert before == after
    assert str(effects) == before_effects


def play_into(env: RailEnv, n_steps: int, seed: int) -> bool:
    """Plays some steps; returns whether the episode goes on."""
    rng = np.random.default_rng(seed)
    for _ in range(min(n_steps, env._max_episode_steps - 1)):
        env.step(dict(enumerate(choose_actions(env, rng, 0.2, halting=0.5).tolist())))
        if env.dones["__all__"]:
            return False
    return True


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 100_000),
    n_steps=st.integers(1, 120),
    effects=st.sampled_from(
        [
            lambda: breakdowns(1 / 10),
            lambda: MultiEffectsGeneratorWrapped(departure_delays(), breakdowns(1 / 50)),
            lambda: MultiEffectsGeneratorWrapped(breakdowns(1 / 50), conditional(broken_or_late)),
            lambda: MultiEffectsGeneratorWrapped(
                breakdowns(0.0), conditional(None, 0.05, max_num_malfunctions=30), departure_delays()
            ),
        ]
    ),
)
def test_levels_that_are_begun_in_their_middle(seed, n_steps, effects) -> None:
    env = level(seed, effects())
    if play_into(env, n_steps, seed):
        play_both(env, 0.2, seed, halting=0.5)


def test_conditions_of_ones_own_see_where_a_train_was_before() -> None:
    for n_steps in range(4, 40, 5):
        env = level(1, conditional(lambda agent, _: agent.old_configuration != agent.current_configuration, 5.0))
        env.effects_generator._max_num_malfunctions = 0
        play_into(env, n_steps, 1)
        env.effects_generator._max_num_malfunctions = None
        play_both(env, 0.2)


def circling(seed: int) -> RailEnv:
    """Trains that come by at their stops again and again, and stop there; they are never home."""
    starts = [((0, 1), EAST), ((0, 4), EAST), ((2, 2), WEST)][: 1 + seed % 3]
    env = drawn_env(["/----\\", "|    |", "L----J", "<---> "], [(start, (3, 2)) for start in starts])
    env.rewards = ECML2026Rewards()
    ring = [((0, column), EAST) for column in range(1, 5)] + [((2, column), WEST) for column in range(1, 5)]
    add_stops(env, [ring] * len(starts), np.random.default_rng(seed))
    return env


@pytest.mark.parametrize("forgotten", [False, True])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 100_000), n_steps=st.integers(1, 60))
@example(seed=4198, n_steps=49)  # a train stands at a stop and leaves it in the next step
def test_stops_are_read_in_the_middle(forgotten, seed, n_steps) -> None:
    """Also where the visits up to now are forgotten, as in a file: then departures come before arrivals."""
    env = circling(seed)
    if play_into(env, n_steps, seed):
        if forgotten:
            env.rewards = ECML2026Rewards()
        play_both(env, 0.2, seed, halting=0.5)


def test_a_file_that_was_saved_in_the_middle(tmp_path) -> None:
    env = level(4, MultiEffectsGeneratorWrapped(departure_delays(), breakdowns(1 / 20)))
    play_into(env, 50, 4)
    RailEnvPersister.save(env, str(tmp_path / "level.pkl"))
    loaded, _ = RailEnvPersister.load_new(str(tmp_path / "level.pkl"), rewards=ECML2026Rewards())
    assert loaded._elapsed_steps == 50
    play_both(loaded, 0.2, halting=0.5)


def test_packed_and_pickled_levels_bring_the_same() -> None:
    for seed in range(3):
        env = level(seed, MultiEffectsGeneratorWrapped(departure_delays(), conditional(None, 1 / 30), breakdowns()))
        simulator = CompiledSimulator.from_env(env)
        packed, pickled = pack_level(simulator), pickle.dumps(simulator)
        assert_same_in_play(simulator, unpack_level(packed), seed)
        assert simulator.state.n_malfunctions.sum() > 20
        assert_same_in_play(pickle.loads(pickled), unpack_level(packed), seed)


def test_conditions_of_ones_own_are_not_packed() -> None:
    with pytest.raises(UnpackableLevelError, match="cannot be packed"):
        pack_level(CompiledSimulator.from_env(level(1, conditional(broken_or_late))))


class _Flood(EffectsGenerator):
    def on_episode_step_start(self, env, *args, **kwargs):
        return env


def _condition_that_looks_elsewhere() -> EffectsGenerator:
    other = level(1)
    return conditional(lambda agent, _: other.agents[0].state == agent.state)


def _with_other_numbers() -> RailEnv:
    env = level(1, departure_delays())
    env.np_random = np.random.RandomState(np.random.PCG64(1))
    return env


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: level(1, _Flood()), "effects of the type _Flood"),
        (lambda: level(1, EffectsGenerator(on_episode_step_end=lambda **_: None)), "effects of the type EffectsG"),
        (lambda: level(1, _condition_that_looks_elsewhere()), "no function of its arguments alone"),
        (lambda: level(1, conditional(_Flood().on_episode_step_start)), "the condition _Flood.on_episode_step_start"),
        (lambda: level(1, conditional(condition_stopped_cells_and_range(0, 9, np.zeros((2, 2))))), "in a ndarray"),
        (lambda: level(1, departure_delays(0.1, 5, 2)), "at least 5 and at most 2 steps"),
        (_with_other_numbers, "random numbers of MT19937 only"),
    ],
)
def test_effects_that_are_refused(make, message) -> None:
    with pytest.raises(UnsupportedLevel, match=message):
        CompiledSimulator.from_env(make())
