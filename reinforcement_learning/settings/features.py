"""What a training's policies see: a feature set of the kit, and features of the user's own behind it."""

from dataclasses import replace
from typing import Any

from reinforcement_learning.settings.config import ConfigError, TrainingConfig
from reinforcement_learning.settings.extensions import ExtensionError, find_callable
from utils.levels.level_streams import TrainingLevels
from utils.observation.feature_sets import FeatureSet, get_feature_set
from utils.observation.more_features import checked_features
from utils.simulator.rail_state import RailState
from utils.system.users_code import RAISED_BY_USERS_CODE, describe

NO_FEATURES = TrainingConfig.features


def feature_set_of(config: TrainingConfig) -> FeatureSet:
    """The feature set that a configuration asks for.

    Raises:
        ConfigError: there are no such features of the user's own, or they are not what ``MoreFeatures`` asks for.
    """
    return with_more_features(get_feature_set(config.feature_set), config.features)


def with_more_features(feature_set: FeatureSet, name: str) -> FeatureSet:
    """A feature set with the features behind it that ``--features`` names.

    Raises:
        ConfigError: see :func:`feature_set_of`.
    """
    if name == NO_FEATURES:
        return feature_set
    try:
        more = find_callable(name, "set of features", {})()
    except ExtensionError as error:
        raise ConfigError(f"--features: {error}") from error
    except RAISED_BY_USERS_CODE as error:  # whatever a user's code raises
        raise ConfigError(f"--features: the features {name!r} cannot be made ({describe(error)}).") from error
    _check_attributes(more, name)
    return replace(feature_set, more=more)


def _check_attributes(more: Any, name: str) -> None:
    wanted = {
        "name": ("a text", lambda value: isinstance(value, str) and value != ""),
        "version": ("a whole number", lambda value: type(value) is int),
        "n_features": ("a whole number of at least 1", lambda value: type(value) is int and value >= 1),
    }
    if not callable(more):
        raise ConfigError(f"--features: {name!r} makes a {type(more).__name__}, but must make a callable.")
    for attribute, (words, fits) in wanted.items():
        value = getattr(more, attribute, None)
        if not fits(value):
            raise ConfigError(f"--features: {name!r} has {attribute} {value!r}, but it must be {words}.")


def check_features(config: TrainingConfig, feature_set: FeatureSet) -> None:
    """Tells before training whether features of the user's own work, on the first level of each environment.

    Raises:
        FeaturesError: they do not.
    """
    if feature_set.more is not None:
        for env in TrainingLevels(config.training_env, config.seed).first_of_each():
            checked_features(feature_set.more, RailState.from_env(env))
