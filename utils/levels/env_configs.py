"""The environments of the kit: a registry of named configurations, and what a user may name on the command line.

A configuration is everything ``RailEnv`` needs except the seed. The recipe is the one of flatland's own
documentation (sparse rail and line generators, ``ParamMalfunctionGen``), so a score measured here can be
compared with one measured anywhere else for the same configuration and seed.
"""

from dataclasses import dataclass
from pathlib import Path

from flatland.envs.rewards import DefaultRewards, Rewards

from utils.levels.saved_levels import EnvConfigError, SavedEnv, check_saved_env, is_saved_env_path


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
        rewards: made anew for each level.
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
    rewards: type[Rewards] = DefaultRewards


def _classic(name: str, n_agents: int, n_cities: int, rail_pairs: int, malfunction_interval: int) -> EnvConfig:
    return EnvConfig(
        name, n_agents, 30, 30, n_cities, max_rail_pairs_in_city=rail_pairs, malfunction_rate=1 / malfunction_interval
    )


# Columns, rows, cities and trains of the fifteen official tests, and the malfunction interval in the challenge of 2021.
_OFFICIAL = (
    (30, 30, 2, 7, 540),
    (30, 30, 2, 10, 900),
    (30, 30, 3, 20, 1_800),
    (30, 35, 3, 50, 4_500),
    (35, 30, 5, 80, 7_200),
    (45, 35, 7, 80, 7_200),
    (40, 60, 9, 80, 7_200),
    (60, 40, 13, 80, 7_200),
    (60, 60, 17, 80, 7_200),
    (80, 120, 21, 100, 9_000),
    (100, 80, 25, 100, 9_000),
    (100, 100, 29, 200, 18_000),
    (150, 150, 33, 200, 18_000),
    (150, 150, 37, 400, 36_000),
    (158, 158, 41, 425, 36_000),
)
_BENCHMARKS_INTERVAL = 540  # steps, in all tests of today's Flatland Benchmarks
_BENCHMARKS_TRAINS = {1: 7}  # where their number of trains is another one
# The challenge wrote 0.33; flatland takes it for 1/3, too.
_FOUR_SPEEDS = ((1.0, 0.25), (1 / 2, 0.25), (1 / 3, 0.25), (1 / 4, 0.25))


def _registry() -> dict[str, EnvConfig]:
    configs = [
        _classic("Test_0", n_agents=5, n_cities=2, rail_pairs=1, malfunction_interval=50),
        _classic("Test_1", n_agents=10, n_cities=2, rail_pairs=2, malfunction_interval=100),
        _classic("Test_2", n_agents=20, n_cities=3, rail_pairs=2, malfunction_interval=200),
        # For quick tries: two cities need 18 cells in one direction and 10 in the other, and 18 x 10 is enough.
        EnvConfig("Tiny", n_agents=2, width=18, height=10, n_cities=2, max_rail_pairs_in_city=1),
    ]
    for test, (width, height, n_cities, n_agents, interval) in enumerate(_OFFICIAL):
        for setting, trains, steps in (
            ("Round2", n_agents, interval),
            ("Benchmarks", _BENCHMARKS_TRAINS.get(test, n_agents), _BENCHMARKS_INTERVAL),
        ):
            name = f"{setting}_Test_{test:02}"
            rate = 1 / steps
            configs.append(
                EnvConfig(name, trains, width, height, n_cities, malfunction_rate=rate, speed_ratios=_FOUR_SPEEDS)
            )
    return {config.name: config for config in configs}


ENV_CONFIGS: dict[str, EnvConfig] = _registry()
"""Every configuration by its name."""

_CLASSIC_NAMES = ("Test_0", "Test_1", "Test_2")  # the classic kit calls them by the numbers 0, 1 and 2


def _accepted() -> str:
    return (
        f"a number from 0 to 2, one of {', '.join(_CLASSIC_NAMES)}, Tiny, Round2_Test_00 to Round2_Test_14, "
        "Benchmarks_Test_00 to Benchmarks_Test_14, or the path of an environment saved as .pkl"
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
    if is_saved_env_path(text):
        saved = SavedEnv(path)
        check_saved_env(saved)
        return saved
    raise EnvConfigError(f"unknown environment {text!r}: accepted is {_accepted()}")
