"""Snapshots of environments that are ready to play, restored much faster than they are made."""

import pickle
from dataclasses import dataclass

from flatland.envs.malfunction_effects_generators import MalfunctionEffectsGenerator
from flatland.envs.rail_env import RailEnv

from utils.levels.fast_reset import FastDistanceMap
from utils.simulator.flatland_versions import BuilderOfBothVersions, find_all_effects_generators


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


@dataclass(frozen=True)
class LevelSnapshot:
    """An environment between its reset and its first step, as bytes.

    Attributes:
        pickled: the environment without its distance map, which is made again when it is asked for: flatland keeps
            float64 for every train, 340 MB for the largest official configuration.
    """

    pickled: bytes

    @classmethod
    def take(cls, env: RailEnv) -> "LevelSnapshot":
        """Stores ``env``, which must have been reset and not stepped since; ``env`` itself stays usable.

        Its generators must be picklable, which those of ``make_rail_env`` are.

        Raises:
            ValueError: ``env`` has been stepped since its reset.
        """
        if env._elapsed_steps != 0:
            raise ValueError(f"only an environment at step 0 can be stored, this one is at {env._elapsed_steps}")
        own_map = env.distance_map
        env.distance_map = FastDistanceMap([], env.height, env.width)
        env.distance_map.reset(env.agents, env.rail)
        try:
            return cls(pickle.dumps(env, protocol=pickle.HIGHEST_PROTOCOL))
        finally:
            env.distance_map = own_map

    def restore(self, malfunctions_of: RailEnv | None = None) -> RailEnv:
        """A new environment, equal to the stored one in everything that play depends on, random state included.

        Args:
            malfunctions_of: an environment whose malfunction draws go on here, instead of those of the stored one.
        """
        env: RailEnv = pickle.loads(self.pickled)
        # Pickling, and loading from a file, rebuild the generator inside the effects of an environment, from which
        # ``env.step`` draws, apart from the one that it shows as its attribute.
        for effects in find_all_effects_generators(env.effects_generator, MalfunctionEffectsGenerator)[:1]:
            env.malfunction_generator = effects.malfunction_generator
            env.malfunction_process_data = effects.malfunction_generator.get_process_data()
        if malfunctions_of is not None:
            vars(env.malfunction_generator).update(vars(malfunctions_of.malfunction_generator))
        return env
