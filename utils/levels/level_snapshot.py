"""Snapshots of environments that are ready to play, restored much faster than they are made."""

import pickle
from collections import defaultdict
from dataclasses import dataclass
from math import inf

import numpy as np
from flatland.envs.malfunction_effects_generators import MalfunctionEffectsGenerator
from flatland.envs.rail_env import RailEnv

from utils.simulator.flatland_versions import BuilderOfBothVersions, find_all_effects_generators

_UNREACHABLE = np.iinfo(np.uint16).max


class NoObservations(BuilderOfBothVersions):
    """flatland's ``DummyObservationBuilder`` without its reference to the environment.

    That reference makes a cycle, so an environment with its 9 MB of malfunction draws would wait for the garbage
    collector; without it Python frees the environment as soon as nobody uses it.
    """

    def set_env(self, env: RailEnv) -> None:
        """Nothing to keep."""

    def reset(self, env: RailEnv | None = None) -> None:
        """Nothing to prepare, nothing to keep."""

    def get(self, handle: int = 0) -> bool:
        """What flatland's dummy builder gives."""
        return True


def _infinite() -> float:
    return inf


@dataclass(frozen=True)
class LevelSnapshot:
    """An environment between its reset and its first step, as bytes.

    Attributes:
        pickled: the environment without its distance map.
        distances: uint16 ``[targets, height, width, 4]``, one map for each distinct target; 65535 is unreachable.
            flatland keeps float64 for every train, 340 MB for the largest official configuration.
        target_of_train: int ``[trains]``, the row of ``distances`` of each train.
    """

    pickled: bytes
    distances: np.ndarray
    target_of_train: np.ndarray

    @classmethod
    def take(cls, env: RailEnv) -> "LevelSnapshot":
        """Stores ``env``, which must have been reset and not stepped since; ``env`` itself stays usable.

        Its generators must be picklable, which those of ``make_rail_env`` are.

        Raises:
            ValueError: ``env`` has been stepped since its reset.
        """
        if env._elapsed_steps != 0:
            raise ValueError(f"only an environment at step 0 can be stored, this one is at {env._elapsed_steps}")
        distance_map = env.distance_map
        full = distance_map.get()
        # The scratch dictionary of the search is larger than the map and never read again.
        distance_map.distances = defaultdict(_infinite)
        rows: dict[frozenset, int] = {}
        target_of_train = np.array([rows.setdefault(frozenset(agent.targets), len(rows)) for agent in env.agents])
        first_train = np.unique(target_of_train, return_index=True)[1]
        distances = np.nan_to_num(full[first_train], posinf=_UNREACHABLE).astype(np.uint16)
        distance_map.set(None)
        try:
            pickled = pickle.dumps(env, protocol=pickle.HIGHEST_PROTOCOL)
        finally:
            distance_map.set(full)
        return cls(pickled, distances, target_of_train)

    def restore(self, malfunctions_of: RailEnv | None = None) -> RailEnv:
        """A new environment, equal to the stored one in everything that play depends on, random state included.

        Args:
            malfunctions_of: an environment whose malfunction draws go on here, instead of those of the stored one.
        """
        env: RailEnv = pickle.loads(self.pickled)
        full = self.distances[self.target_of_train].astype(np.float64)
        full[full == _UNREACHABLE] = inf
        env.distance_map.set(full)
        use_one_malfunction_generator(env)
        if malfunctions_of is not None:
            vars(env.malfunction_generator).update(vars(malfunctions_of.malfunction_generator))
        return env


def use_one_malfunction_generator(env: RailEnv) -> None:
    """Makes ``env.malfunction_generator`` the generator that ``env.step`` really draws from.

    Pickling, and loading from a file, rebuild the generator inside the effects of an environment apart from
    the one it shows as its attribute.
    """
    for effects in find_all_effects_generators(env.effects_generator, MalfunctionEffectsGenerator)[:1]:
        env.malfunction_generator = effects.malfunction_generator
        env.malfunction_process_data = effects.malfunction_generator.get_process_data()
