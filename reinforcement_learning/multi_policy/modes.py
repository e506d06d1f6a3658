"""How several policies share the environments: the modes, and with which other options they can be used."""

from reinforcement_learning.learning.hyperparameters import Hyperparameters
from reinforcement_learning.learning.networks import network_names
from reinforcement_learning.multi_policy.exchange import out_of_bounds, searched
from reinforcement_learning.multi_policy.mapping import (
    MAPPING_RULES,
    NEEDS_MIXING,
    MappingRule,
    PolicyMapping,
    batched,
    synchronous,
)
from reinforcement_learning.multi_policy.objective import find_objective
from reinforcement_learning.settings.config import ConfigError, TrainingConfig
from reinforcement_learning.settings.extensions import ExtensionError, find_callable
from utils.levels.level_streams import TrainingLevels
from utils.simulator.rail_state import RailState


def check_exchange(config: TrainingConfig) -> None:
    """Refuses population-based training where it cannot begin.

    Raises:
        ConfigError: there is one policy only, networks differ, a hyper-parameter starts outside the range that is
            searched, there would never be an exchange, or there is no such objective.
    """
    if not config.with_pbt:
        return
    if config.num_policies < 2:
        raise ConfigError("--with_pbt compares policies, but --num_policies is 1; give at least 2.")
    if len(set(network_names(config))) > 1:
        raise ConfigError(
            f"--with_pbt copies weights between policies, but --network names different networks: {config.network}."
        )
    if wrong := out_of_bounds(Hyperparameters.of(config), searched(config)):
        raise ConfigError(wrong[0])
    first = max(config.pbt_start_episodes, config.pbt_period_episodes)
    if first >= config.n_episodes:
        raise ConfigError(
            f"--with_pbt would never exchange anything: the first exchange is due after {first} episodes "
            f"(--pbt_start_episodes, --pbt_period_episodes), but --n_episodes is {config.n_episodes}."
        )
    if config.pbt_min_errors > 0.0 and config.n_evaluation_episodes < 2:
        raise ConfigError(
            f"--pbt_min_errors {config.pbt_min_errors:g} compares policies level by level, but "
            "--n_evaluation_episodes is 1; give at least 2, or --pbt_min_errors 0."
        )
    try:
        find_objective(config.pbt_objective)
    except ExtensionError as error:
        raise ConfigError(f"--pbt_objective: {error}") from error


def make_mapping(config: TrainingConfig) -> PolicyMapping:
    """The mapping from trains to policies that a configuration asks for.

    Raises:
        ConfigError: the options do not go together, or there is no such mapping.
    """
    check_sharing(config)
    mode, mixed = config.policy_mode, config.mix_policies_in_one_env
    rule: MappingRule
    if mode == "synchronous":
        rule, name, mixed = synchronous, mode, False
    elif mode == "batched":
        rule, name, mixed = batched(config.num_envs), mode, False
    else:
        try:
            rule, name = find_callable(config.policy_mapping, "mapping", MAPPING_RULES), config.policy_mapping
        except ExtensionError as error:
            raise ConfigError(f"--policy_mapping: {error}") from error
        mixed = mixed and name != "shared"
    return PolicyMapping(rule, name, config, mixed=mixed)


def check_mapping(config: TrainingConfig) -> None:
    """Checks a training of several policies before it starts: options that do not go together, a rule that fails.

    Raises:
        ConfigError: see :func:`make_mapping` and :func:`check_exchange`.
        ExtensionError: a user's rule gives no mapping for the first level.
    """
    check_exchange(config)
    mapping = make_mapping(config)
    if config.num_policies > 1 and config.policy_mapping not in MAPPING_RULES:
        for env in TrainingLevels(config.training_env, config.seed).first_of_each():
            mapping.policy_of_train(0, RailState.from_env(env))


def check_sharing(config: TrainingConfig) -> None:
    """Refuses combinations of options that cannot work.

    Raises:
        ConfigError: the sentence gives the reason.
    """
    n, environments, mode = config.num_policies, config.num_envs, config.policy_mode
    if mode == "asynchronous" and not config.async_rl:
        raise ConfigError("--policy_mode asynchronous plays and learns side by side on Ray: add --async_rl.")
    if config.async_rl and mode in ("synchronous", "batched"):
        raise ConfigError(
            f"--policy_mode {mode} ties environments to policies in a fixed order, but with --async_rl nobody waits "
            "for anybody; give --policy_mode mixed."
        )
    if mode == "synchronous" and environments % n:
        lower, upper = environments // n * n, (environments // n + 1) * n
        nearest = f"{lower} or {upper}" if lower else f"{upper}"
        raise ConfigError(
            f"--policy_mode synchronous needs environments that can be shared out evenly: --num_envs {environments} "
            f"divided by --num_policies {n} leaves {environments % n}; give --num_envs {nearest}."
        )
    if mode == "batched" and environments < n:
        raise ConfigError(
            f"--policy_mode batched needs at least one environment for each policy: --num_envs is {environments}, "
            f"but --num_policies is {n}."
        )
    if mode in ("synchronous", "batched") and config.policy_mapping != TrainingConfig.policy_mapping:
        raise ConfigError(
            f"--policy_mapping {config.policy_mapping} has no effect in --policy_mode {mode}, which has a mapping of "
            "its own; give --policy_mode mixed."
        )
    if config.policy_mapping in NEEDS_MIXING and not config.mix_policies_in_one_env:
        raise ConfigError(
            f"--policy_mapping {config.policy_mapping} gives trains of one environment different policies, which "
            "--mix_policies_in_one_env False forbids."
        )
