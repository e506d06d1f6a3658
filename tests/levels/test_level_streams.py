"""Levels for training and for evaluation: reproducible, apart from each other, restored exactly, and freed."""

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
from flatland.envs.persistence import RailEnvPersister
from flatland.envs.rail_grid_transition_map import RailGridTransitionMap

from tests.helpers.lockstep import lockstep, malfunctions
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.flatland_workarounds import LEVELS_BETWEEN_CLEARINGS, clear_flatland_caches, growing_caches
from utils.levels.level_snapshot import LevelSnapshot
from utils.levels.level_streams import TrainingLevels
from utils.levels.playable_levels import EvaluationLevels
from utils.levels.rail_envs import make_rail_env
from utils.levels.saved_levels import SavedEnv
from utils.system.seeds import Stream, level_seed

TINY = ENV_CONFIGS["Tiny"]
TEST_0 = ENV_CONFIGS["Test_0"]


class TestTrainingLevels:
    def test_level_depends_on_seed_and_number_alone(self) -> None:
        forward, backward = TrainingLevels(TEST_0, 3), TrainingLevels(TEST_0, 3)
        first = {k: forward.make(k) for k in (0, 1, 2)}
        second = {k: backward.make(k) for k in (2, 1, 0)}
        for k in first:
            lockstep(first[k], second[k])

    def test_levels_are_those_of_the_plain_way(self) -> None:
        lockstep(TrainingLevels(TEST_0, 3).make(7), make_rail_env(TEST_0, level_seed(3, Stream.TRAINING_LEVELS, 7)))

    def test_levels_differ_by_number_and_by_seed(self) -> None:
        envs = [TrainingLevels(TEST_0, seed).make(k) for seed, k in [(0, 0), (0, 1), (1, 0)]]
        assert len({env.rail.grid.tobytes() for env in envs}) == 3


class TestEvaluationLevels:
    @pytest.mark.parametrize("name", ["Tiny", "Test_0", "Test_2", "Benchmarks_Test_01"])
    def test_same_level_again_and_again(self, name: str) -> None:
        config = ENV_CONFIGS[name]
        levels = EvaluationLevels(config, 3, 2)
        plain = make_rail_env(config, level_seed(3, Stream.EVALUATION_LEVELS, 1))
        distances = plain.distance_map.get().copy()
        first, second = levels.make(1), levels.make(1)
        lockstep(plain, first)
        lockstep(second, levels.make(1))
        assert malfunctions(levels.make(1)) == malfunctions(levels.make(1))
        assert np.array_equal(levels.make(1).distance_map.get(), distances)

    def test_random_state_goes_on_alike_after_the_episode(self) -> None:
        levels = EvaluationLevels(TEST_0, 3, 1)
        env, plain = levels.make(0), make_rail_env(TEST_0, level_seed(3, Stream.EVALUATION_LEVELS, 0))
        assert malfunctions(env) == malfunctions(plain)
        assert env.np_random.rand() == plain.np_random.rand()

    def test_restored_environment_can_be_reset(self) -> None:
        levels = EvaluationLevels(TEST_0, 3, 1)
        levels.make(0)
        env = levels.make(0)
        env.reset(True, True, random_seed=17)
        lockstep(make_rail_env(TEST_0, 17), env)

    def test_wrong_counts_and_indices(self) -> None:
        with pytest.raises(ValueError, match="at least one level, got 0"):
            EvaluationLevels(TINY, 0, 0)
        levels = EvaluationLevels(TINY, 0, 2)
        assert len(levels) == 2
        for index in (-1, 2):
            with pytest.raises(IndexError, match=f"got index {index}"):
                levels.make(index)

    def test_saved_environment(self, tmp_path: Path) -> None:
        RailEnvPersister.save(make_rail_env(TEST_0, 5), tmp_path / "level.pkl")
        levels = EvaluationLevels(SavedEnv(tmp_path / "level.pkl"), 0, 2)
        lockstep(levels.make(0), levels.make(0))
        assert malfunctions(levels.make(0)) != malfunctions(levels.make(1))


class TestLevelSnapshot:
    def test_taking_one_leaves_the_environment_as_it_was(self) -> None:
        env = make_rail_env(TEST_0, 4)
        LevelSnapshot.take(env)
        lockstep(make_rail_env(TEST_0, 4), env)

    def test_is_small(self) -> None:
        snapshot = LevelSnapshot.take(make_rail_env(ENV_CONFIGS["Test_1"], 4))
        assert len(snapshot.pickled) < 100_000

    def test_refuses_an_environment_in_play(self) -> None:
        env = make_rail_env(TINY, 4)
        env.step({})
        with pytest.raises(ValueError, match="at step 0"):
            LevelSnapshot.take(env)


class TestMemory:
    def test_finds_the_caches_that_grow(self) -> None:
        caches = growing_caches()
        assert RailGridTransitionMap.get_transition in caches
        assert "flatland.envs.rail_env" in {cache.__module__ for cache in caches}
        make_rail_env(TINY, 0).distance_map.get()
        assert RailGridTransitionMap.get_transition.cache_info().currsize > 0
        clear_flatland_caches()
        assert all(cache.cache_info().currsize == 0 for cache in caches)

    def test_clearing_in_the_middle_of_an_episode_changes_nothing(self) -> None:
        env, plain = make_rail_env(TEST_0, 4), make_rail_env(TEST_0, 4)
        for _ in range(10):
            clear_flatland_caches()
            assert env.step(dict.fromkeys(range(5), 2))[1:] == plain.step(dict.fromkeys(range(5), 2))[1:]

    def test_environments_are_freed_at_once_without_the_garbage_collector(self) -> None:
        levels = TrainingLevels(TINY, 0)
        environments: weakref.WeakSet = weakref.WeakSet()
        maps: list[weakref.ref] = []
        gc.collect()
        gc.disable()
        try:
            for k in range(3 * LEVELS_BETWEEN_CLEARINGS):
                env = levels.make(k)
                environments.add(env)
                maps.append(weakref.ref(env.rail))
                malfunctions(env)
            alive_maps = sum(rail() is not None for rail in maps)
        finally:
            gc.enable()
        assert len(environments) <= LEVELS_BETWEEN_CLEARINGS + 1
        assert alive_maps <= LEVELS_BETWEEN_CLEARINGS + 1
