"""``FlatlandParallelEnv``: Flatland as a PettingZoo ``ParallelEnv``, on the compiled simulator and observation.

It is for training with other libraries, or with a loop of one's own. It needs ``requirements-pettingzoo.txt``.
"""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    from gymnasium.spaces import Box, Dict, Discrete
    from gymnasium.utils import EzPickle
    from pettingzoo import ParallelEnv
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"{__name__} needs PettingZoo, which is not installed: pip install -r requirements-pettingzoo.txt"
    ) from error

from utils.levels.env_configs import Environment, resolve_env_config
from utils.levels.flatland_workarounds import clear_flatland_caches
from utils.levels.level_pool import LevelPool
from utils.levels.rail_envs import make_rail_env
from utils.observation.feature_sets import get_feature_set
from utils.observation.observer import Observer
from utils.simulator.compiled_simulator import CompiledSimulator
from utils.simulator.rail_grid import DO_NOTHING, N_ACTIONS
from utils.simulator.state_arrays import DONE
from utils.system.seeds import MAX_USER_SEED

AgentID = str
Observation = dict[str, NDArray[Any]]
Info = dict[str, Any]


class FlatlandParallelEnv(ParallelEnv, EzPickle):
    """One Flatland environment, in which every train is an agent::

        env = FlatlandParallelEnv("Test_1")
        observations, infos = env.reset(seed=0)
        while env.agents:
            actions = {agent: env.action_space(agent).sample(infos[agent]["action_mask"]) for agent in env.agents}
            observations, rewards, terminations, truncations, infos = env.step(actions)

    **Agents** are ``train_0``, ``train_1`` and so on. A train that has arrived is terminated and leaves ``agents``. Of
    environments whose levels differ in their number of trains, smaller ones begin with fewer ``agents``.

    **Observations** are dictionaries: ``observation``, float32 ``[features]`` from -1 to 1, and ``action_mask``, int8
    ``[5]``, 1 for the actions that are allowed. There is always at least one; with only one the train has nothing to
    decide. The mask stands in the infos too, for wrappers that leave only the features in the observation.

    **Actions** are flatland's: 0 does nothing, 1, 2 and 3 move left, forward and right, 4 stops. An action that the
    mask does not allow, or none, is replaced by the first allowed one. With ``safe_moves``, trains whose moves are
    allowed one by one but not safe together are made to wait, as in this kit's own training.

    **Rewards** are the environment's own: 0 until a train arrives or time is up. The sum over trains and steps, divided
    by ``simulator.state.max_episode_steps`` and by the number of trains, is the score of an episode.

    **The end.** When time is up, the trains that are left are terminated, not truncated: the time limit is part of
    Flatland's task, the penalty falls due there, and trains observe how much time is left. So nothing is bootstrapped
    from the last state. ``infos[agent]["arrived"]`` tells the trains that have arrived from those that have not.

    **Levels.** ``reset(seed=k)`` plays level 0 of a training with ``--seed k``; each ``reset()`` after it plays the
    next level of that training. Without any seed it is seed 0, so give each of several copies a seed of its own.
    Levels for evaluation are others: ``reset(options={"level_seed": s})`` plays the level that ``evaluate_agent.py
    --seed s`` plays first, for an ``s`` below 2**30. No training ever plays one of those.

    The first start in a fresh checkout takes about 20 seconds longer, in which numba compiles.

    Args:
        environment: what ``multi_agent_training.py -t`` takes (a number, a name, or a path),
            or a configuration of your own.
        feature_set: what a train observes: a name from ``FEATURE_SETS``. The default has no plan, which takes most of a
            step's time; trainings have ``tree_plan``.
        action_mask, decision_points, safe_moves: as the options of the training with these names.
        level_workers: background processes that make levels ahead, so that ``reset`` need not wait for them.

    Attributes:
        config: the environment that was asked for.
        simulator: the level in play; its ``state`` has all trains as plain arrays. There is none before ``reset``.

    Raises:
        EnvConfigError: ``environment`` names none.
        ValueError: the feature set or ``decision_points`` is not known.
    """

    metadata = {"name": "flatland", "render_modes": []}  # noqa: RUF012
    render_mode = None

    def __init__(
        self,
        environment: str | int | Environment,
        feature_set: str = "tree_routes",
        *,
        action_mask: bool = True,
        decision_points: str = "every_cell",
        safe_moves: bool = True,
        level_workers: int = 1,
    ) -> None:
        # a copy, or one in another process, is a new environment with the same arguments
        EzPickle.__init__(
            self,
            environment,
            feature_set,
            action_mask=action_mask,
            decision_points=decision_points,
            safe_moves=safe_moves,
            level_workers=level_workers,
        )
        self.config = environment if isinstance(environment, Environment) else resolve_env_config(environment)
        self._observer = Observer(
            get_feature_set(feature_set),
            safe_moves=safe_moves,
            action_mask=action_mask,
            decision_points=decision_points,
        )
        self._level_workers = level_workers
        self._levels: LevelPool | None = None
        self._next_level = 0
        self.simulator: CompiledSimulator
        self.agents: list[AgentID] = []
        self.possible_agents = [f"train_{handle}" for handle in range(self.config.n_agents)]
        self._handles = {agent: handle for handle, agent in enumerate(self.possible_agents)}
        self._mask = np.zeros((0, N_ACTIONS), dtype=np.bool_)  # of the last observation
        n_features = self._observer.feature_set.n_features
        self.observation_spaces = {
            agent: Dict(
                {
                    "observation": Box(-1.0, 1.0, (n_features,), np.float32),
                    "action_mask": Box(0, 1, (N_ACTIONS,), np.int8),
                }
            )
            for agent in self.possible_agents
        }
        self.action_spaces = {agent: Discrete(N_ACTIONS) for agent in self.possible_agents}

    def observation_space(self, agent: AgentID) -> Dict:
        """The space of ``observation`` and ``action_mask``, the same for all trains."""
        return self.observation_spaces[agent]

    def action_space(self, agent: AgentID) -> Discrete:
        """flatland's five actions."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[AgentID, Observation], dict[AgentID, Info]]:
        """Begins an episode on the next level, or on the one that is asked for; see the class.

        Args:
            seed: begins the levels of another training; a whole number of at least 0.
            options: ``level_seed`` asks for one level; others are ignored.

        Returns:
            Observations and infos, by agent.

        Raises:
            ValueError: ``seed`` or ``level_seed`` is out of range.
            UnsupportedLevel: the compiled simulator cannot play a saved environment.
        """
        if seed is not None or self._levels is None:
            self._begin_levels(0 if seed is None else seed)
        level_seed = (options or {}).get("level_seed")
        self.simulator = self._make_next_level() if level_seed is None else self._make_level(level_seed)
        self.agents = self.possible_agents[: self.simulator.state.n_trains]
        return self._observe()

    def step(
        self, actions: dict[AgentID, int]
    ) -> tuple[
        dict[AgentID, Observation], dict[AgentID, float], dict[AgentID, bool], dict[AgentID, bool], dict[AgentID, Info]
    ]:
        """Moves all trains by one step.

        Returns:
            Observations, rewards, terminations, truncations (none) and infos of the trains that were in ``agents``.

        Raises:
            RuntimeError: no episode is under way.
            ValueError: an action is not from 0 to 4.
            KeyError: there is no such agent.
        """
        if not self.agents:
            raise RuntimeError("no episode is under way: call reset first")
        self.simulator.step(self._moves(actions))
        observations, infos = self._observe()
        # as flatland-rl says it: with the episode all trains are done, those that have not arrived too
        all_dones = ((self.simulator.state.state == DONE) | self.simulator.done).tolist()
        all_rewards = self.simulator.rewards.tolist()
        rewards = {agent: all_rewards[self._handles[agent]] for agent in self.agents}
        terminations = {agent: all_dones[self._handles[agent]] for agent in self.agents}
        truncations = dict.fromkeys(self.agents, False)
        self.agents = [agent for agent in self.agents if not terminations[agent]]
        return observations, rewards, terminations, truncations, infos

    def close(self) -> None:
        """Ends the background processes; they end with this process, too."""
        if self._levels is not None:
            self._levels.close()

    def _begin_levels(self, seed: int) -> None:
        if seed < 0:
            raise ValueError(f"seed is {seed}; it must be a whole number of at least 0")
        self.close()
        self._levels = LevelPool(
            self.config, seed, self._level_workers, plan=self._observer.plan_ahead, warn=warnings.warn
        )
        self._next_level = 0

    def _make_next_level(self) -> CompiledSimulator:
        """The next level of the seed."""
        assert self._levels is not None
        k, self._next_level = self._next_level, self._next_level + 1
        if k == 0:  # who gives a seed for each episode needs no other level: no process is started for it
            return CompiledSimulator.from_env(self._levels.levels.make(0))
        return self._levels.simulator(k)

    def _make_level(self, level_seed: int) -> CompiledSimulator:
        """The level of one seed of flatland's."""
        if not 0 <= level_seed <= MAX_USER_SEED:
            raise ValueError(f"level_seed is {level_seed}; it must be a whole number from 0 to {MAX_USER_SEED}")
        clear_flatland_caches()  # which a level fills with some megabytes
        return CompiledSimulator.from_env(make_rail_env(self.config, level_seed))

    def _moves(self, actions: dict[AgentID, int]) -> NDArray[np.int64]:
        """What all trains do, int64 ``[trains]``, given what was chosen for some of them."""
        chosen = np.full(len(self._mask), DO_NOTHING, dtype=np.int64)
        for agent, action in actions.items():
            if not 0 <= action < N_ACTIONS:
                raise ValueError(f"the action of {agent} is {action}; it must be a whole number from 0 to 4")
            chosen[self._handles[agent]] = action
        moves = np.where(self._mask[np.arange(len(chosen)), chosen], chosen, self._mask.argmax(axis=1))
        self._observer.settle(self.simulator.state, moves)
        return moves

    def _observe(self) -> tuple[dict[AgentID, Observation], dict[AgentID, Info]]:
        """Observations and infos, by agent; their arrays belong to the caller."""
        features, self._mask = self._observer.observe(self.simulator.state)
        arrived = (self.simulator.state.state == DONE).tolist()
        live = set(self.agents)
        observations, infos = {}, {}
        for agent, row, mask, has_arrived in zip(
            self.possible_agents, features, self._mask.astype(np.int8), arrived, strict=False
        ):
            if agent in live:
                observations[agent] = {"observation": row, "action_mask": mask}
                infos[agent] = {"action_mask": mask, "arrived": has_arrived}
        return observations, infos
