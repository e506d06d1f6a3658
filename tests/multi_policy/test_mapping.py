"""Mappings from trains to policies: fair, reproducible, and checked where users write their own."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reinforcement_learning.multi_policy.mapping import (
    MAPPING_RULES,
    NEEDS_MIXING,
    MappingRule,
    PolicyMapping,
    batched,
    synchronous,
)
from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.settings.extensions import ExtensionError, find_callable
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.simulator.rail_state import RailState


def level(n_trains: int, speeds: list[float] | None = None) -> Any:
    """As much of a level as rules look at."""
    denominator = np.full(n_trains, 12, dtype=np.int32)
    return SimpleNamespace(
        n_trains=n_trains,
        denominator=denominator,
        max_speed=np.array([round(12 * s) for s in speeds or [1.0] * n_trains], dtype=np.int32),
    )


def mapping_of(
    rule: MappingRule,
    name: str,
    n_policies: int,
    *,
    mixed: bool = True,
    resample_every: int = 1,
    n_environments: int = 1,
    seed: int = 0,
) -> PolicyMapping:
    config = TrainingConfig(
        num_policies=n_policies, resample_policies_every=resample_every, num_envs=n_environments, seed=seed
    )
    return PolicyMapping(rule, name, config, mixed=mixed)


def shares(mapping: PolicyMapping, n_trains: int, n_episodes: int = 1000) -> np.ndarray:
    """How many trains each policy drives, as a multiple of an even share."""
    policy_of_train = np.concatenate([mapping.policy_of_train(k, level(n_trains)) for k in range(n_episodes)])
    return np.bincount(policy_of_train, minlength=mapping.n_policies) * mapping.n_policies / len(policy_of_train)


@pytest.mark.parametrize("rule", MAPPING_RULES)
@pytest.mark.parametrize("mixed", [True, False])
@given(
    n_policies=st.integers(2, 8),
    n_trains=st.sampled_from([1, 2, 5, 10]),
    n_environments=st.sampled_from([1, 3, 8]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=4, deadline=None)
def test_nobody_starves(rule: str, mixed: bool, n_policies: int, n_trains: int, n_environments: int, seed: int) -> None:
    if not mixed and rule in NEEDS_MIXING:
        return
    mapping = mapping_of(
        MAPPING_RULES[rule], rule, n_policies, mixed=mixed, resample_every=10, n_environments=n_environments, seed=seed
    )
    assert shares(mapping, n_trains) == pytest.approx(np.ones(n_policies), abs=0.1)


@pytest.mark.parametrize("rule", MAPPING_RULES)
def test_mapping_of_an_episode_does_not_depend_on_what_was_asked_before(rule: str) -> None:
    def make() -> PolicyMapping:
        return mapping_of(MAPPING_RULES[rule], rule, 3, resample_every=2, n_environments=4, seed=5)

    forward, backward = make(), make()
    wanted = {k: forward.policy_of_train(k, level(7)).tolist() for k in range(60)}
    assert {k: backward.policy_of_train(k, level(7)).tolist() for k in reversed(range(60))} == wanted
    assert len({tuple(policy_of_train) for policy_of_train in wanted.values()}) > 1


class TestRandom:
    def mapping(self, **options: Any) -> PolicyMapping:
        return mapping_of(MAPPING_RULES["random"], "random", 4, **options)

    def test_every_train_meets_every_policy_equally_often(self) -> None:
        mapping = self.mapping(seed=3)
        policy_of_train = np.stack([mapping.policy_of_train(k, level(6)) for k in range(2000)])
        counts = np.stack([np.bincount(column, minlength=4) for column in policy_of_train.T])
        assert counts == pytest.approx(np.full((6, 4), 500), abs=100)  # five standard deviations

    def test_trains_are_mixed_independently_of_each_other(self) -> None:
        mapping = self.mapping(seed=3)
        policy_of_train = np.stack([mapping.policy_of_train(k, level(8)) for k in range(2000)])
        pairs = np.bincount(4 * policy_of_train[:, 0] + policy_of_train[:, 5], minlength=16)
        assert pairs.min() > 50  # all pairs of policies occur, equal ones included

    def test_who_shares_an_environment_is_random_too(self) -> None:
        mapping = self.mapping(mixed=False, seed=1)
        policy_of_train = [mapping.policy_of_train(k, level(5)) for k in range(400)]
        assert all(len(set(of_episode.tolist())) == 1 for of_episode in policy_of_train)
        first = np.array([of_episode[0] for of_episode in policy_of_train]).reshape(-1, 4)
        assert len({tuple(turn) for turn in first.tolist()}) == 24  # all orders of four policies

    def test_another_seed_another_mapping(self) -> None:
        one, other = (np.stack([self.mapping(seed=s).policy_of_train(k, level(9)) for k in range(9)]) for s in (1, 2))
        assert not np.array_equal(one, other)

    @pytest.mark.parametrize("n_environments", [1, 3])
    def test_stays_for_as_many_episodes_of_an_environment_as_asked(self, n_environments: int) -> None:
        mapping = self.mapping(resample_every=5, n_environments=n_environments, seed=2)
        policy_of_train = [tuple(mapping.policy_of_train(k, level(12))) for k in range(20 * n_environments)]
        for environment in range(n_environments):
            of_environment = policy_of_train[environment::n_environments]
            assert [len(set(of_environment[i : i + 5])) for i in range(0, 20, 5)] == [1] * 4
            assert len(set(of_environment)) == 4


class TestRulesOnBoard:
    def test_round_robin_goes_on_where_it_has_ended(self) -> None:
        mapping = mapping_of(MAPPING_RULES["round_robin"], "round_robin", 4)
        assert mapping.policy_of_train(0, level(6)).tolist() == [0, 1, 2, 3, 0, 1]
        assert mapping.policy_of_train(1, level(6)).tolist() == [2, 3, 0, 1, 2, 3]

    def test_by_handle(self) -> None:
        mapping = mapping_of(MAPPING_RULES["by_handle"], "by_handle", 3)
        assert mapping.policy_of_train(0, level(6)).tolist() == [0, 0, 1, 1, 2, 2]
        assert mapping.policy_of_train(1, level(6)).tolist() == [0, 0, 1, 1, 2, 2]
        assert [sorted(np.bincount(mapping.policy_of_train(k, level(7)))) for k in range(3)] == [[2, 2, 3]] * 3

    def test_by_speed_gives_slow_trains_to_the_first(self) -> None:
        mapping = mapping_of(MAPPING_RULES["by_speed"], "by_speed", 2)
        assert mapping.policy_of_train(0, level(4, [1.0, 0.25, 0.5, 1 / 3])).tolist() == [1, 0, 1, 0]

    def test_by_speed_on_a_level_with_four_speeds(self) -> None:
        state = RailState.from_env(make_rail_env(ENV_CONFIGS["Benchmarks_Test_02"], 1))
        speeds = state.max_speed / state.denominator
        assert len(np.unique(speeds)) == 4
        policy_of_train = mapping_of(MAPPING_RULES["by_speed"], "by_speed", 4).policy_of_train(0, state)
        assert np.bincount(policy_of_train).tolist() == [5, 5, 5, 5]
        for slower, faster in ((0, 1), (1, 2), (2, 3)):
            assert speeds[policy_of_train == slower].max() <= speeds[policy_of_train == faster].min()

    def test_shared_takes_turns(self) -> None:
        mapping = mapping_of(MAPPING_RULES["shared"], "shared", 3)
        assert [mapping.policy_of_train(k, level(2)).tolist() for k in range(4)] == [[0, 0], [1, 1], [2, 2], [0, 0]]

    def test_synchronous_is_fixed(self) -> None:
        mapping = mapping_of(synchronous, "synchronous", 2, mixed=False, resample_every=3, n_environments=4)
        assert [mapping.policy_of_train(k, level(1))[0] for k in range(24)] == [0, 1] * 12

    def test_batched_gives_neighbours_to_one_policy_and_changes_hands(self) -> None:
        mapping = mapping_of(batched(5), "batched", 2, mixed=False, resample_every=2, n_environments=5)
        policy_of_train = [mapping.policy_of_train(k, level(1))[0] for k in range(20)]
        assert policy_of_train == [0, 0, 0, 1, 1] * 2 + [1, 1, 1, 0, 0] * 2

    def test_single_policy_asks_nobody(self) -> None:
        def never(request: object) -> list[int]:
            raise AssertionError

        assert mapping_of(never, "never", 1).policy_of_train(7, level(3)).tolist() == [0, 0, 0]


class TestUsersRules:
    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ([0, 1], "gave 2 numbers"),
            ([0, 1, 2], "gave 2,"),
            ([0, -1, 0], "gave -1,"),
            ([0.0, 1.0, 0.0], r"\[0.0, 1.0, 0.0\]"),
            ([0, "1", 0], "'1'"),
            ([[0], [1, 0], 1], r"\[1, 0\]"),
            ([True, False, True], "True"),
            (None, "None"),
            (1, "gave 1,"),
            ([[0, 1, 0]], r"\[\[0, 1, 0\]\]"),
        ],
    )
    def test_wrong_mappings_are_told_in_a_sentence(self, given: Any, words: str) -> None:
        mapping = mapping_of(lambda request: given, "mine:rule", 2)
        with pytest.raises(ExtensionError, match=words) as error_info:
            mapping.policy_of_train(0, level(3))
        sentence = str(error_info.value)
        assert "'mine:rule'" in sentence
        assert "from 0 to 1 for each of 3 trains" in sentence
        assert "\n" not in sentence

    def test_mixing_where_there_is_none(self) -> None:
        mapping = mapping_of(lambda request: [0, 1], "mine:rule", 2, mixed=False)
        with pytest.raises(ExtensionError, match="--mix_policies_in_one_env is False"):
            mapping.policy_of_train(0, level(2))

    def test_rule_that_fails(self) -> None:
        mapping = mapping_of(lambda request: 1 // 0, "mine:rule", 2)
        with pytest.raises(ExtensionError, match=r"episode 4 .*ZeroDivisionError"):
            mapping.policy_of_train(4, level(2))

    def test_rule_sees_the_episode(self) -> None:
        seen = []

        def rule(request: Any) -> list[int]:
            seen.append((request.episode, request.environment, request.n_trains, request.n_policies))
            return request.random.integers(request.n_policies, size=request.n_trains).tolist()

        mapping = mapping_of(rule, "mine:rule", 3, n_environments=2)
        policy_of_train = [mapping.policy_of_train(k, level(4)) for k in (0, 1, 2)]
        assert seen == [(0, 0, 4, 3), (1, 1, 4, 3), (2, 0, 4, 3)]
        assert {of_episode.dtype for of_episode in policy_of_train} == {np.dtype(np.int64)}

    def test_is_found_by_its_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "my_mapping_rules.py").write_text("def mine(request):\n    return [1] * request.n_trains\nN = 3\n")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", list(sys.path))
        rule = find_callable("my_mapping_rules:mine", "mapping", MAPPING_RULES)
        assert mapping_of(rule, "mine", 2).policy_of_train(0, level(3)).tolist() == [1, 1, 1]
        for name, words in (
            ("my_mapping_rules:yours", "AttributeError"),
            ("my_mapping_rules:N", "is a int"),
            ("no_such_module:rule", "ModuleNotFoundError"),
            ("by_colour", "random, round_robin"),
            (":x", "package.module:callable"),
        ):
            with pytest.raises(ExtensionError, match=words):
                find_callable(name, "mapping", MAPPING_RULES)
