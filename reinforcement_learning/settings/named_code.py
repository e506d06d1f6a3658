"""Code of the user's own that checkpoints may have been trained with, as a command that plays them is told of it.

A checkpoint's word is never enough to import anything: see ``extensions.check_named_by_user``.
"""

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.settings.extensions import ExtensionError, check_named_by_user
from reinforcement_learning.settings.options import has_colon

_MEANINGS = {
    "network": "network of your own that a checkpoint was trained with, as package.module:callable; repeatable, also "
    f"for {TrainingConfig.network} beside it",
    "features": "features of your own that a checkpoint was trained with, as package.module:callable; repeatable, also "
    f"for {TrainingConfig.features} beside them",
    "policy_mapping": "what maps the trains with --policy_index mapping (default: what did in training; a mapping of "
    "your own must be named here)",
}
_VARIABLES = {"network": "FLATLAND_NETWORK", "features": "FLATLAND_FEATURES"}


@dataclass(frozen=True)
class NamedCode:
    """What the command line names, by option; empty where it says nothing.

    Several names are for a checkpoint with as many policies, or for several checkpoints.
    """

    network: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    policy_mapping: tuple[str, ...] = ()
    by_environment: bool = False  # there is no command line; environment variables name it

    def options_for(self, stored: Mapping[str, Any]) -> dict[str, str]:
        """The options for a checkpoint with this stored configuration: where it has named ones, those that it has."""
        options = {}
        for option in _MEANINGS:
            names, trained_with = getattr(self, option), _trained_with(stored, option)
            if names:
                options[option] = trained_with if set(trained_with.split(",")) <= set(names) else ",".join(names)
        return options

    def check_variables(self, stored: Mapping[str, Any]) -> None:
        """Refuses a checkpoint with this stored configuration where environment variables name other code.

        Raises:
            ExtensionError: the sentence says which variable to set, as there is no command line.
        """
        if not self.by_environment:
            return
        options = self.options_for(stored)
        needed = {name: _trained_with(stored, name) for name in _VARIABLES}
        check_named_by_user({name: text for name, text in needed.items() if has_colon(text)}, options, _VARIABLES)
        for name, text in options.items():
            if name in needed and text != needed[name]:
                raise ExtensionError(
                    f"{_VARIABLES[name]} is {text!r}, but the checkpoint was trained with {needed[name]!r}."
                )


NOTHING_NAMED = NamedCode()


def _trained_with(stored: Mapping[str, Any], option: str) -> str:
    return str(stored.get(option, getattr(TrainingConfig, option)))


def options_to_play(config: TrainingConfig) -> list[str]:
    """What a command line that plays one of a training's policies must say: what is not on board."""
    values = {name: getattr(config, name) for name in _VARIABLES}
    return [part for name, value in values.items() if has_colon(value) for part in (f"--{name}", value)]


def add_code_options(parser: argparse.ArgumentParser, *, variables: bool = False) -> None:
    """Gives a parser the options; ``variables`` says that environment variables stand in for those not given."""
    for name, meaning in _MEANINGS.items():
        default = f" (default: ${_VARIABLES[name]})" if variables and name in _VARIABLES else ""
        parser.add_argument(f"--{name}", action="append", metavar="NAME", help=meaning + default)


def named_on_command_line(options: argparse.Namespace, *, variables: bool = False) -> NamedCode:
    """What the options of :func:`add_code_options` say; ``variables`` as there."""
    instead = named_by_environment() if variables else NOTHING_NAMED
    given = {name: tuple(",".join(getattr(options, name) or []).split(",")) for name in _MEANINGS}
    names_given = {name: names for name, names in given.items() if names != ("",)}
    return replace(instead, **names_given, by_environment=False)


def named_by_environment() -> NamedCode:
    """What the environment variables FLATLAND_NETWORK and FLATLAND_FEATURES name, several separated by commas."""
    given = {name: os.environ.get(variable, "") for name, variable in _VARIABLES.items()}
    return NamedCode(**{name: tuple(names.split(",")) for name, names in given.items() if names}, by_environment=True)
