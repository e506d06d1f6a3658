"""The configuration of a run: what the command line says goes before what a checkpoint holds."""

import dataclasses
from pathlib import Path
from typing import Any

from reinforcement_learning.settings.config import NETWORKS, ConfigError, TrainingConfig
from reinforcement_learning.settings.extensions import ExtensionError, check_named_by_user
from utils.levels.env_configs import with_absolute_path
from utils.levels.mixtures import Mixture, with_absolute_paths

_PBT_OF_EARLIER_VERSIONS: dict[str, Any] = {"pbt_start_episodes": 0, "pbt_min_errors": 0.0}
"""What population-based training did before there were these options."""


def make_config(options: dict[str, Any], stored: dict[str, Any] | None = None) -> TrainingConfig:
    """The configuration of a run: defaults, then what a checkpoint holds, then the options that were given.

    Raises:
        ConfigError: a value is not accepted, a resumed training would change an option that is fixed, or the checkpoint
            names code or a file to unpickle that the options do not name.
    """
    known = {row.name for row in dataclasses.fields(TrainingConfig)}
    stored = {name: value for name, value in (stored or {}).items() if name in known}
    if stored.get("with_pbt"):
        stored = _PBT_OF_EARLIER_VERSIONS | stored
    _check_stored(options, stored)
    config = TrainingConfig(**{**stored, **options})
    _check_effects(config, options)
    # files and folders are found again by a resumed training that is started from another folder
    absolute: dict[str, Any] = {
        name: str(Path(getattr(config, name)).resolve())
        for name in ("checkpoint_dir", "replay_buffer_dir", "output_dir")
    }
    absolute["training_env_config"] = with_absolute_paths(config.training_env_config)
    absolute["evaluation_env_config"] = with_absolute_path(config.evaluation_env_config)
    return dataclasses.replace(config, **absolute)


def _check_effects(config: TrainingConfig, options: dict[str, Any]) -> None:
    """Refuses options that were given and that others make meaningless."""
    no_effect: dict[str, str] = {}
    if config.learning_reward:
        instead = f"with --learning_reward {config.learning_reward}, which takes its place: give one of the two"
        no_effect = dict.fromkeys(("shaping", "arrival_reward", "deadlock_penalty"), instead)
    if not NETWORKS.keys() & set(config.network.split(",")):
        no_effect["hidden_size"] = f"with --network {config.network}: it is for {' and '.join(NETWORKS)}"
    if config.ray_address and not config.async_rl:
        no_effect["ray_address"] = "without --async_rl: add that, or leave it out"
    if not isinstance(config.training_env, Mixture):
        no_effect["curriculum"] = "with one environment to train on: give --training_env_config several times"
    if config.dagger and not config.asks_plan:
        no_effect["dagger"] = "here: it needs --demonstrations above 0, and a plan among the features (tree_plan)"
    for name in no_effect.keys() & options.keys():
        raise ConfigError(f"--{name} has no effect {no_effect[name]}.")


def _check_stored(options: dict[str, Any], stored: dict[str, Any]) -> None:
    """Refuses what must not change, and what a checkpoint must not name alone; see :func:`make_config`."""
    for row in dataclasses.fields(TrainingConfig):
        name = row.name
        trained_with = stored.get(name, row.default)  # earlier versions did not have all options
        if row.metadata["fixed"] and stored and options.get(name, trained_with) != trained_with:
            raise ConfigError(
                f"--{name} is {options[name]!r}, but the checkpoint was trained with {trained_with!r}, "
                "which cannot change."
            )
    runs_code = {row.name: row.metadata["runs_code"] for row in dataclasses.fields(TrainingConfig)}
    try:
        check_named_by_user({name: value for name, value in stored.items() if runs_code[name](value)}, options)
    except ExtensionError as error:
        raise ConfigError(str(error)) from error


def options_to_repeat(config: TrainingConfig) -> list[str]:
    """What a command line that resumes a training must say again: options whose values run code."""
    given = [(row, getattr(config, row.name)) for row in dataclasses.fields(config)]
    return [part for row, value in given if row.metadata["runs_code"](value) for part in (f"--{row.name}", value)]
