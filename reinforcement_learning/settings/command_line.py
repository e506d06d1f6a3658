"""The command line of a training: the parser, its help and the tables of docs/options.md, made from ``config``."""

import argparse
import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reinforcement_learning.settings.arguments import SentenceParser, whole_number
from reinforcement_learning.settings.config import GROUPS, TrainingConfig
from utils.system.files import PROJECT_ROOT


def parse_bool(text: str) -> bool:
    """``--x``, ``--x=True``, ``--x False`` and ``--x=0`` all work; ``type=bool`` would take "False" for true."""
    lowered = text.strip().lower()
    if lowered in {"true", "1", "yes", "on"}:
        return True
    if lowered in {"false", "0", "no", "off"}:
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


_CONVERTERS: dict[type, Callable[[str], Any]] = {bool: parse_bool, int: whole_number, float: _number, str: str}


def build_parser(*, keep_unset: bool = False) -> SentenceParser:
    """The command line; with ``keep_unset`` only options that were given appear in the result."""
    parser = SentenceParser(
        prog="multi_agent_training.py",
        description="Trains a policy that all trains share: a dueling double DQN on Flatland tree observations.",
        epilog="Example: multi_agent_training.py -n 2500 -t 1 -e 1",
    )
    groups = {name: parser.add_argument_group(title) for name, title in GROUPS.items()}
    for row in dataclasses.fields(TrainingConfig):
        flags = [f"-{row.metadata['short']}"] if row.metadata["short"] else []
        flags += [f"--{name}" for name in (row.name, row.metadata["also"]) if name]
        kind = type(row.default)
        extra: dict[str, Any] = {"nargs": "?", "const": True} if kind is bool else {}
        if row.metadata["repeatable"]:
            extra = {"action": "append"}
        groups[row.metadata["group"]].add_argument(
            *flags,
            dest=row.name,
            type=_CONVERTERS[kind],
            default=argparse.SUPPRESS if keep_unset else row.default,
            help=_help_line(row).replace("%", "%%"),
            metavar={bool: "BOOL", int: "N", float: "X", str: "TEXT"}[kind],
            **extra,
        )
    return parser


def _shown_default(row: dataclasses.Field[Any]) -> str:
    value = row.default
    if isinstance(value, str) and value.startswith(str(PROJECT_ROOT)):
        return f"{Path(value).relative_to(PROJECT_ROOT)}/ of the project"
    if isinstance(value, str):
        return value or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _meaning(row: dataclasses.Field[Any]) -> str:
    accepted = row.metadata["accepts"].words
    return row.metadata["help"] + (f"; {accepted}" if accepted else "")


def _help_line(row: dataclasses.Field[Any]) -> str:
    default = "" if "(default" in row.metadata["help"] else f" (default: {_shown_default(row)})"
    return f"{_meaning(row)}{default}"


def given_options(arguments: Sequence[str]) -> dict[str, Any]:
    """The options that a command line names, by field; exits with 2 on a command line that cannot be read."""
    options = vars(build_parser(keep_unset=True).parse_args(arguments))
    # those of options that may be given several times come as lists
    return {name: ",".join(value) if isinstance(value, list) else value for name, value in options.items()}


def value_of(option: str, text: str) -> Any:
    """What a command line makes of ``--option=text``; raises ValueError if it cannot be read."""
    (default,) = (row.default for row in dataclasses.fields(TrainingConfig) if row.name == option)
    try:
        return _CONVERTERS[type(default)](os.path.expanduser(text))
    except argparse.ArgumentTypeError as error:
        raise ValueError(str(error)) from error


def options_as_markdown() -> str:
    """The tables of docs/options.md, one for each group."""
    lines = []
    for group, title in GROUPS.items():
        lines += [f"**{title}**", "", "| option | default | meaning |", "| --- | --- | --- |"]
        for row in dataclasses.fields(TrainingConfig):
            if row.metadata["group"] != group:
                continue
            short = f"`-{row.metadata['short']}`, " if row.metadata["short"] else ""
            also = f", `--{row.metadata['also']}`" if row.metadata["also"] else ""
            meaning = _meaning(row).replace("|", "\\|")
            lines.append(f"| {short}`--{row.name}`{also} | {_shown_default(row)} | {meaning} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"
