"""The environments of the kit: a registry of named configurations, and what a user may name on the command line.

A configuration is everything ``RailEnv`` needs except the seed. The recipe is the one of flatland's own
documentation (sparse rail and line generators, ``ParamMalfunctionGen``), so a score measured here can be
compared with one measured anywhere else for the same configuration and seed.
"""

from dataclasses import dataclass
from pathlib import Path

from utils.levels.saved_levels import SAVED_ENV_SUFFIX, EnvConfigError, SavedEnv, check_saved_env


@dataclass(frozen=True)
class EnvConfig:
    """What describes a distribution of levels; a level is a configuration and a seed.

    Attributes:
        name: the name in the registry.
        n_agents: number of trains.
        width: columns of the map (``x_dim`` in the metadata of the graders).
        height: rows of the map (``y_dim``).
        n_cities: how many cities the generator tries to place; it may place fewer.
        max_rail_pairs_in_city: pairs of parallel tracks in a city.
        max_rails_between_cities: tracks that leave a city towards another one.
        malfunction_rate: expected malfunctions per step and train; 0 for none.
        malfunction_min_duration: steps, inclusive.
        malfunction_max_duration: steps, inclusive.
        speed_ratios: pairs (speed in cells per step, share of the trains); empty for every train at speed 1.
        grid_mode: cities on a regular grid instead of at random positions.
    """

    name: str
    n_agents: int
    width: int
    height: int
    n_cities: int
    max_rail_pairs_in_city: int = 2
    max_rails_between_cities: int = 2
    malfunction_rate: float = 0.0
    malfunction_min_duration: int = 20
    malfunction_max_duration: int = 50
    speed_ratios: tuple[tuple[float, float], ...] = ()
    grid_mode: bool = False


def _classic(name: str, n_agents: int, n_cities: int, rail_pairs: int, malfunction_interval: int) -> EnvConfig:
    return EnvConfig(
        name, n_agents, 30, 30, n_cities, max_rail_pairs_in_city=rail_pairs, malfunction_rate=1 / malfunction_interval
    )


# Trains, columns, rows and cities of the fifteen tests of the Flatland 3 challenge, round 2.
_ROUND_2 = (
    (7, 30, 30, 2),
    (10, 30, 30, 2),
    (20, 30, 30, 3),
    (50, 30, 35, 3),
    (80, 35, 30, 5),
    (80, 45, 35, 7),
    (80, 40, 60, 9),
    (80, 60, 40, 13),
    (80, 60, 60, 17),
    (100, 80, 120, 21),
    (100, 100, 80, 25),
    (200, 100, 100, 29),
    (200, 150, 150, 33),
    (400, 150, 150, 37),
    (425, 158, 158, 41),
)
_FOUR_SPEEDS = ((1.0, 0.25), (1 / 2, 0.25), (1 / 3, 0.25), (1 / 4, 0.25))


def _registry() -> dict[str, EnvConfig]:
    configs = [
        _classic("Test_0", n_agents=5, n_cities=2, rail_pairs=1, malfunction_interval=50),
        _classic("Test_1", n_agents=10, n_cities=2, rail_pairs=2, malfunction_interval=100),
        _classic("Test_2", n_agents=20, n_cities=3, rail_pairs=2, malfunction_interval=200),
        # For quick tries: two cities need 18 cells in one direction and 10 in the other, and 18 x 10 is enough.
        EnvConfig("Tiny", n_agents=2, width=18, height=10, n_cities=2, max_rail_pairs_in_city=1),
    ]
    configs += [
        EnvConfig(f"Round2_Test_{i:02}", *sizes, malfunction_rate=1 / 540, speed_ratios=_FOUR_SPEEDS)
        for i, sizes in enumerate(_ROUND_2)
    ]
    return {config.name: config for config in configs}


ENV_CONFIGS: dict[str, EnvConfig] = _registry()
"""Every configuration by its name."""

_CLASSIC_NAMES = ("Test_0", "Test_1", "Test_2")  # the classic kit calls them by the numbers 0, 1 and 2


def _accepted() -> str:
    return (
        "a number from 0 to 2, one of "
        f"{', '.join(name for name in ENV_CONFIGS if not name.startswith('Round2'))}, "
        "Round2_Test_00 to Round2_Test_14, or the path of an environment saved as .pkl"
    )


def resolve_env_config(given: str | int) -> EnvConfig | SavedEnv:
    """The environment that a person means by a number, a name (in any case) or the path of a file.

    A file is opened here, so that a wrong one is noticed before training starts.

    Raises:
        EnvConfigError: unknown number or name, missing file, or a file that holds no usable environment.
    """
    text = str(given).strip()
    if text.isdecimal():
        if int(text) < len(_CLASSIC_NAMES):
            return ENV_CONFIGS[_CLASSIC_NAMES[int(text)]]
        raise EnvConfigError(f"unknown environment {text}: accepted is {_accepted()}")
    by_lower_name = {name.lower(): config for name, config in ENV_CONFIGS.items()}
    if text.lower() in by_lower_name:
        return by_lower_name[text.lower()]
    path = Path(text)
    if path.suffix == SAVED_ENV_SUFFIX:
        saved = SavedEnv(path)
        check_saved_env(saved)
        return saved
    raise EnvConfigError(f"unknown environment {text!r}: accepted is {_accepted()}")
