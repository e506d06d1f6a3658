"""Which options of several policies go together; those that do not are refused with the reason."""

from typing import Any

import numpy as np
import pytest

from reinforcement_learning.multi_policy.modes import make_mapping
from reinforcement_learning.settings.config import ConfigError, TrainingConfig
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.simulator.rail_state import RailState


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"policy_mode": "asynchronous"}, "--policy_mode asynchronous .* add --async_rl"),
        ({"policy_mode": "synchronous", "async_rl": True}, "--policy_mode synchronous .* nobody waits"),
        ({"policy_mode": "batched", "async_rl": True}, "--policy_mode batched .* nobody waits"),
        ({"policy_mode": "synchronous", "num_envs": 8, "num_policies": 3}, "8 divided by .* 3 leaves 2.* 6 or 9"),
        ({"policy_mode": "synchronous", "num_envs": 2, "num_policies": 3}, "2 divided by .* 3 leaves 2.*num_envs 3"),
        ({"policy_mode": "batched", "num_envs": 2, "num_policies": 3}, "--num_envs is 2, but --num_policies is 3"),
        ({"policy_mode": "batched", "policy_mapping": "by_speed"}, "no effect"),
        ({"policy_mapping": "by_speed", "mix_policies_in_one_env": False}, "--mix_policies_in_one_env False"),
        ({"policy_mapping": "by_colour"}, "--policy_mapping: there is no mapping 'by_colour'"),
        ({"policy_mapping": "no_such_module:rule"}, "ModuleNotFoundError"),
    ],
)
def test_refused_with_the_reason(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error_info:
        make_mapping(TrainingConfig(**{"num_policies": 2, **options}))
    assert "\n" not in str(error_info.value)


@pytest.mark.parametrize(
    ("options", "mixed"),
    [
        ({}, True),
        ({"mix_policies_in_one_env": False}, False),
        ({"policy_mapping": "shared"}, False),
        ({"policy_mode": "synchronous"}, False),
        ({"policy_mode": "batched"}, False),
        ({"policy_mode": "asynchronous", "async_rl": True}, True),
        ({"async_rl": True, "num_workers": 3}, True),
        ({"num_workers": 3}, True),
        ({"num_workers": 3, "policy_mode": "synchronous"}, False),
        ({"num_workers": 3, "policy_mode": "batched"}, False),
    ],
)
def test_environments_are_mixed_unless_something_says_otherwise(options: dict[str, Any], mixed: bool) -> None:
    assert make_mapping(TrainingConfig(num_policies=4, **options)).mixed == mixed


@pytest.mark.parametrize(("mode", "n_policies"), [("synchronous", 4), ("batched", 4), ("batched", 3), ("batched", 7)])
def test_in_modes_with_a_mapping_of_their_own_nobody_starves_either(mode: str, n_policies: int) -> None:
    mapping = make_mapping(TrainingConfig(num_policies=n_policies, num_envs=8, policy_mode=mode))
    level = RailState.from_env(make_rail_env(ENV_CONFIGS["Tiny"], 0))
    policy_of_train = np.concatenate([mapping.policy_of_train(k, level) for k in range(1000)])
    assert np.bincount(policy_of_train) * n_policies / len(policy_of_train) == pytest.approx(
        np.ones(n_policies), abs=0.1
    )
