"""What a training's policies see: a feature set of the kit, features of the user's own behind it, and neighbours."""

from dataclasses import replace
from typing import Any

from reinforcement_learning.settings.config import NETWORKS, ConfigError, TrainingConfig
from reinforcement_learning.settings.extensions import ExtensionError, extension_errors, find_callable
from utils.levels.level_streams import TrainingLevels
from utils.observation.feature_sets import FeatureSet, get_feature_set
from utils.observation.kept_plans import QUICK, QUICKEST
from utils.observation.more_features import checked_features
from utils.observation.neighbours import MOST_NEIGHBOURS
from utils.observation.observer import Observer
from utils.simulator.rail_state import RailState

NO_FEATURES = TrainingConfig.features


def feature_set_of(config: TrainingConfig) -> FeatureSet:
    """The feature set that a configuration asks for.

    Raises:
        ConfigError: there are no such features or networks of the user's own, or they are not what ``MoreFeatures``
            and ``--network`` ask for.
    """
    return with_neighbours(with_more_features(get_feature_set(config.feature_set), config.features), config.network)


def training_observer(config: TrainingConfig, feature_set: FeatureSet, *, evaluates: bool = False) -> Observer:
    """What trains see in a training: in the episodes that are learned from, or in its evaluations."""
    return Observer(
        feature_set,
        safe_moves=config.safe_moves,
        action_mask=config.action_mask,
        decision_points=config.decision_points,
        plan_rounds=QUICK if evaluates else QUICKEST,
    )


def with_neighbours(feature_set: FeatureSet, networks: str) -> FeatureSet:
    """A feature set with as many neighbours as any of the networks looks at that ``--network`` names.

    Raises:
        ConfigError: see :func:`feature_set_of`.
    """
    return replace(feature_set, n_neighbours=max(_n_neighbours(name) for name in networks.split(",")))


def _n_neighbours(network: str) -> int:
    if network in NETWORKS:
        return NETWORKS[network]
    try:
        make = find_callable(network, "network", NETWORKS)
    except ExtensionError as error:
        raise ConfigError(f"--network: {error}") from error
    number = getattr(make, "n_neighbours", 0)
    if type(number) is not int or not 0 <= number <= MOST_NEIGHBOURS:
        raise ConfigError(
            f"--network: {network!r} has n_neighbours {number!r}, but it must be a whole number from 0 to "
            f"{MOST_NEIGHBOURS}."
        )
    return number


def with_more_features(feature_set: FeatureSet, name: str) -> FeatureSet:
    """A feature set with the features behind it that ``--features`` names.

    Raises:
        ConfigError: see :func:`feature_set_of`.
    """
    if name == NO_FEATURES:
        return feature_set
    try:
        with extension_errors(f"the features {name!r} cannot be made"):
            more = find_callable(name, "set of features", {})()
    except ExtensionError as error:
        raise ConfigError(f"--features: {error}") from error
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
