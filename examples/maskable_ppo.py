"""Stable-Baselines3 on Flatland: MaskablePPO of sb3-contrib, with one network for all trains.

    python examples/maskable_ppo.py --steps 100000

It needs ``pip install -r requirements-pettingzoo.txt``.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it can be started from any folder

import numpy as np
from sb3_contrib import MaskablePPO
from stable_baselines3.common.vec_env import VecEnv

from utils.parallel_env import FlatlandParallelEnv


class TrainsAsEnvs(VecEnv):
    """Stable-Baselines3 knows one agent in each environment, so each train is shown to it as an environment.

    A train that has arrived has nothing to decide, and no reward, until the others are through, too.
    """

    render_mode = None

    def __init__(self, env: FlatlandParallelEnv) -> None:
        self.env, self.trains = env, env.possible_agents
        self.scores: list[float] = []  # of the episodes that are over
        space = env.observation_space("train_0")["observation"]
        super().__init__(len(self.trains), space, env.action_space("train_0"))

    def reset(self) -> np.ndarray:
        """Begins the next level."""
        self.score = 0.0
        return self._show(self.env.reset()[0])

    def step_async(self, actions: np.ndarray) -> None:
        """Takes an action for each train."""
        self.actions = dict(zip(self.trains, actions.tolist(), strict=True))

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Moves the trains; when all are through, the next level begins."""
        n_steps = self.env.simulator.state.max_episode_steps
        observations, by_train, terminations, *_ = self.env.step(
            {train: self.actions[train] for train in self.env.agents}
        )
        rewards = np.array([by_train.get(train, 0.0) / n_steps for train in self.trains], dtype=np.float32)
        self.score += float(rewards.mean())
        seen = self._show(observations)
        dones = np.array([terminations.get(train, not self.env.agents) for train in self.trains])
        infos: list[dict[str, Any]] = [
            {"terminal_observation": row} if done else {} for row, done in zip(seen, dones, strict=True)
        ]
        if not self.env.agents:
            self.scores.append(self.score)
            seen = self.reset()
        return seen, rewards, dones, infos

    def _show(self, observations: dict[str, dict[str, np.ndarray]]) -> np.ndarray:
        """Observations ``[trains, features]``; keeps the action masks, bool ``[trains, 5]``."""
        seen = np.zeros((self.num_envs, *self.observation_space.shape), dtype=np.float32)
        self.masks = np.tile(np.arange(5) == 0, (self.num_envs, 1))  # nothing to decide
        for i, train in enumerate(self.trains):
            if train in observations:
                seen[i], self.masks[i] = observations[train].values()
        return seen

    def has_attr(self, attr_name: str) -> bool:
        """sb3-contrib asks whether there are action masks."""
        return attr_name == "action_masks"

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[np.ndarray]:
        """The only method it calls: ``action_masks``."""
        return list(self.masks)

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of the environment, for each train."""
        return [getattr(self.env, attr_name)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Nothing can be set."""

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """Nothing is wrapped."""
        return [False] * self.num_envs

    def close(self) -> None:
        """Ends the processes that make levels."""
        self.env.close()


def main() -> None:
    """Trains and prints how it goes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=100_000, help="steps to train, of one train each")
    n_steps = parser.parse_args().steps
    trains = TrainsAsEnvs(FlatlandParallelEnv("Test_0", decision_points="switches"))
    ppo = MaskablePPO("MlpPolicy", trains, n_steps=256, gamma=0.995, seed=0)
    while ppo.num_timesteps < n_steps:
        ppo.learn(5000, reset_num_timesteps=False)
        recent = np.mean(trains.scores[-100:])
        print(f"{ppo.num_timesteps} steps, {len(trains.scores)} episodes, score {recent:.3f}", flush=True)


if __name__ == "__main__":
    main()
