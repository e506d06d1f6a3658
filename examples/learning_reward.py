"""A reward to learn from of one's own: the kit's, and beside it what it costs to stand on the map.

    python reinforcement_learning/multi_agent_training.py -t Tiny -e Tiny -n 200 \
        --learning_reward examples.learning_reward:learning_reward

It is asked once for each step of each training level; scores are always the environment's own.
``reinforcement_learning/playing/reward_shaping.py`` says what a ``TrainStep`` tells.
"""

import numpy as np
import numpy.typing as npt

from reinforcement_learning.playing.reward_shaping import RewardWeights, TrainStep, shaped_reward

WEIGHTS = RewardWeights(gamma=0.995, shaping=1.0, arrival_reward=1.0, deadlock_penalty=0.5)
STANDING = 0.2  # cost of an episode that a train stands through


def learning_reward(step: TrainStep) -> npt.NDArray[np.float64]:
    """The reward of each train, ``[trains]``."""
    on_map = step.state.row >= 0
    stands = on_map & ~step.newly_departed & (step.remaining == step.remaining_before)
    return shaped_reward(step, WEIGHTS) - STANDING * stands / step.max_episode_steps


def arrivals_only(step: TrainStep) -> npt.NDArray[np.float64]:
    """The simplest: 1 at the target, and nothing else."""
    return step.newly_arrived.astype(np.float64)
