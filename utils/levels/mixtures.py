"""Mixtures: several environments that one training plays, and which of them each of its levels is made of."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from utils.levels.env_configs import Environment, names_files, resolve_env_config, with_absolute_path
from utils.levels.saved_levels import EnvConfigError
from utils.system.seeds import Stream, generator

MOST_ENVIRONMENTS = 32
SHARE_OF_NEWEST = 0.5  # of the levels; the others are drawn from all environments that are open


@dataclass(frozen=True)
class Mixture:
    """Several environments, at least two, from easy to hard. The place of each in this order is its stage."""

    environments: tuple[Environment, ...]

    @property
    def name(self) -> str:
        """The name shown in logs."""
        return "+".join(environment.name for environment in self.environments)

    @property
    def n_agents(self) -> int:
        """The most trains that a level has.

        Raises:
            EnvConfigError: a file has become unusable.
        """
        return max(environment.n_agents for environment in self.environments)


TrainingEnvironment = Environment | Mixture
"""What a training may play."""


def environments_of(config: TrainingEnvironment) -> tuple[Environment, ...]:
    """The environments of a mixture, by stage; any other environment is the only one."""
    return config.environments if isinstance(config, Mixture) else (config,)


@lru_cache(maxsize=4096)
def stage_of_level(seed: int, opened: tuple[int, ...], level_number: int) -> int:
    """Which environment of a mixture a training level is made of: a function of these three alone.

    Half of the levels come from the newest environment, the other half from all that are open, in equal shares. Those
    that have been opened together are equally new. What is opened later does not change the levels before it.

    Args:
        seed: of the training.
        opened: the level from which on each environment is open, by stage, in rising order; 0 is the first. Those
            that are not open yet are left out.
        level_number: of the level.
    """
    there = [first for first in opened if first <= level_number]
    if len(there) == 1:
        return 0
    random = generator(seed, Stream.STAGES, level_number)
    oldest = there.index(there[-1]) if random.random() < SHARE_OF_NEWEST else 0
    return int(random.integers(oldest, len(there)))


def split_environments(text: str) -> list[str]:
    """What a list names, which is written as a row of CSV: commas between, and quotes around what has a comma."""
    try:
        (row,) = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    except (csv.Error, ValueError):  # several rows, or none
        return [text]
    return [part.strip() for part in row]


def join_environments(names: Iterable[str]) -> str:
    """The list that :func:`split_environments` reads."""
    row = io.StringIO(newline="")
    csv.writer(row, lineterminator="").writerow(names)
    return row.getvalue()


def resolve_environments(text: str) -> tuple[Environment, ...]:
    """The environments that a person means by a list of numbers, names and paths.

    Raises:
        EnvConfigError: one of them cannot be used, two have one name, or there are too many.
    """
    given = split_environments(text)
    if len(given) > MOST_ENVIRONMENTS:
        raise EnvConfigError(f"{len(given)} environments are given, but at most {MOST_ENVIRONMENTS} are accepted")
    environments = tuple(map(resolve_env_config, given))
    names = [environment.name for environment in environments]
    if twice := [name for name in names if names.count(name) > 1]:
        raise EnvConfigError(
            f"{twice[0]!r} is given twice in {text!r}, but each environment must have a name of its own"
        )
    return environments


def any_names_files(text: str) -> bool:
    """Whether a list has something that can only be the path of an environment; see ``names_files``."""
    return any(map(names_files, split_environments(text)))


def with_absolute_paths(text: str) -> str:
    """The list that names the same environments from any working folder."""
    return join_environments(map(with_absolute_path, split_environments(text)))
