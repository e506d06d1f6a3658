"""Plays levels by rules on flatland-rl itself."""

import numpy as np
from flatland.envs.rail_env import RailEnv

from reinforcement_learning.playing.episode_result import EpisodeResult
from reinforcement_learning.scoring.heuristics import Rule, ShortestPath
from utils.levels.level_snapshot import LevelSnapshot
from utils.simulator.deadlock_check import deadlocked
from utils.simulator.rail_grid import DO_NOTHING, N_ACTIONS
from utils.simulator.rail_losses import knows_causes, losses_of_train
from utils.simulator.simulator import FlatlandSimulator
from utils.simulator.state_arrays import DONE, MALFUNCTION_OFF_MAP
from utils.system.stopwatch import Stopwatch


def play_by_rule(simulator: FlatlandSimulator, rule: Rule, *, stopwatch: Stopwatch | None = None) -> EpisodeResult:
    """Plays one level by a rule. A rule decides about every train at every step."""
    stopwatch = stopwatch or Stopwatch()
    state, over, n_steps = simulator.state, False, 0
    train_rewards = np.zeros(state.n_trains)
    action_counts = np.zeros(N_ACTIONS, dtype=np.int64)
    stopwatch.start()
    while not over:
        actions = rule.act(simulator)
        stopwatch.lap("inference")
        rewards, over = simulator.step(actions)
        stopwatch.lap("step")
        train_rewards += rewards
        action_counts += np.bincount(actions, minlength=N_ACTIONS)
        n_steps += 1
    return EpisodeResult.of_trains(
        train_rewards,
        state.max_episode_steps,
        clips_losses=simulator.clips_losses,
        arrived=state.state == DONE,
        # no train ever leaves the map but by arriving
        departed=state.state > MALFUNCTION_OFF_MAP,
        deadlocked=deadlocked(state),
        n_steps=n_steps,
        action_counts=action_counts,
        losses=simulator.losses(train_rewards),
    )


def play_each_train_alone(env: RailEnv) -> EpisodeResult:
    """What trains reach on a level when none is in another's way: no plan for all of them arrives with more.

    Train by train takes its shortest path while the others stay off the map, each from the level's first step to
    its arrival. Malfunctions come as often as ever; the draws of one train go on where those of the last ended, so
    that chance does not strike them all alike.

    Args:
        env: freshly reset; copies of it are played.
    """
    snapshot, shortest_path = LevelSnapshot.take(env), ShortestPath()
    n_trains = env.get_num_agents()
    n_steps, train_rewards = 0, np.zeros(n_trains)
    losses = []
    arrived, departed = np.zeros(n_trains, dtype=bool), np.zeros(n_trains, dtype=bool)
    action_counts = np.zeros(N_ACTIONS, dtype=np.int64)
    for handle in range(n_trains):
        env = snapshot.restore(malfunctions_of=env)
        simulator, over = FlatlandSimulator(env), False
        while not over and simulator.state.state[handle] != DONE:
            actions = np.full(n_trains, DO_NOTHING, dtype=np.int64)
            actions[handle] = shortest_path.act(simulator)[handle]
            action_counts[actions[handle]] += 1
            rewards, over = simulator.step(actions)
            train_rewards[handle] += rewards[handle]
        arrived[handle] = simulator.state.state[handle] == DONE
        departed[handle] = simulator.state.state[handle] > MALFUNCTION_OFF_MAP
        n_steps += simulator.state.elapsed_steps
        if knows_causes(env.rewards):
            losses.append(losses_of_train(simulator.env, handle, train_rewards[handle]))
    return EpisodeResult.of_trains(
        train_rewards,
        simulator.state.max_episode_steps,
        clips_losses=simulator.clips_losses,
        arrived=arrived,
        departed=departed,
        deadlocked=np.zeros(n_trains, dtype=bool),
        n_steps=n_steps,
        action_counts=action_counts,
        losses=np.array(losses) if losses else None,
    )
