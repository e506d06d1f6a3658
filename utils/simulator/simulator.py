"""What moves the trains: flatland-rl's own ``RailEnv``, or a compiled twin of it, behind the same two members."""

import math
from numbers import Real
from typing import Protocol

import numpy as np
from flatland.envs.rail_env import RailEnv
from numpy.typing import NDArray

from utils.simulator.rail_losses import clips_losses, knows_causes, losses_of_train
from utils.simulator.rail_state import RailState
from utils.system.users_code import RAISED_BY_USERS_CODE, UsersCodeError, describe


class Simulator(Protocol):
    """One level in play."""

    @property
    def state(self) -> RailState:
        """The level and its trains as they are now; the same object for the whole episode."""

    @property
    def clips_losses(self) -> bool:
        """Whether scores count no more than ``max_episode_steps`` of what a train loses."""

    def losses(self, train_rewards: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """What each train has lost by each of ``rail_losses.CAUSES`` when the episode is over.

        Args:
            train_rewards: ``[trains]``, the sum of each train's rewards.

        Returns:
            float64 ``[trains, causes]``; None where that is not told apart.
        """

    def step(self, actions: NDArray[np.int64]) -> tuple[NDArray[np.float64], bool]:
        """Moves all trains by one step.

        Args:
            actions: ``[trains]``, 0 to 4.

        Returns:
            The environment's own rewards ``[trains]``, and whether the episode is over.
        """


class FlatlandSimulator:
    """flatland-rl itself.

    Args:
        env: freshly reset, or loaded from a file.
    """

    def __init__(self, env: RailEnv) -> None:
        self.env = env
        self.state = RailState.from_env(env)
        rewards = type(env.rewards)
        is_flatlands = rewards.__module__.startswith("flatland.")
        self._own_rewards = "" if is_flatlands else f"the rewards class {rewards.__qualname__!r}"

    @property
    def clips_losses(self) -> bool:
        """As :class:`Simulator` says."""
        return clips_losses(self.env.rewards)

    def losses(self, train_rewards: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """As :class:`Simulator` says."""
        if not knows_causes(self.env.rewards):
            return None
        return np.array([losses_of_train(self.env, train, total) for train, total in enumerate(train_rewards.tolist())])

    def step(self, actions: NDArray[np.int64]) -> tuple[NDArray[np.float64], bool]:
        """Moves all trains by one step, as :class:`Simulator` says.

        Raises:
            UsersCodeError: rewards of the user's own fail, or give something else than a finite number.
        """
        # plain integers: RailEnv does nothing, without a word, for types that it does not know
        rewards, over = self._step_env(dict(enumerate(actions.tolist())))
        self.state.update(self.env)
        for reward in rewards.values() if self._own_rewards else ():
            if not isinstance(reward, Real) or not math.isfinite(reward):
                raise UsersCodeError(f"{self._own_rewards} gave {reward!r}, but must give a finite number.")
        return np.fromiter(rewards.values(), dtype=np.float64, count=self.state.n_trains), over

    def _step_env(self, actions: dict[int, int]) -> tuple[dict[int, float], bool]:
        """Rewards by handle, and whether the episode is over."""
        try:
            _, rewards, dones, _ = self.env.step(actions)
        except RAISED_BY_USERS_CODE as error:
            if not self._own_rewards:
                raise
            where = f"step {self.state.elapsed_steps + 1}"
            raise UsersCodeError(f"{self._own_rewards} failed in {where} ({describe(error)}).") from error
        return rewards, dones["__all__"]
