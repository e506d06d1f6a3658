"""A reward to learn from of one's own, named on the command line as ``package.module:callable``."""

import numpy as np
import numpy.typing as npt

from reinforcement_learning.playing.reward_shaping import LearningReward, TrainStep
from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.settings.extensions import ExtensionError, extension_errors, find_callable
from utils.levels.level_streams import TrainingLevels
from utils.simulator.rail_grid import DO_NOTHING
from utils.simulator.rail_state import remaining_travel_time
from utils.simulator.simulator import FlatlandSimulator


def find_own_reward(name: str) -> LearningReward:
    """A user's reward; what it gives is looked at in each step, and what it raises ends in one sentence.

    It is asked once for each step of each level and should know nothing but what it is told then: a resumed training
    plays the steps of unfinished episodes again.

    Raises:
        ExtensionError: there is no such callable; the reward raises it, too, in a step in which it gives something
            else than a finite number for each train.
    """
    function = find_callable(name, "learning reward", {})

    def reward(step: TrainStep) -> npt.NDArray[np.float64]:
        who = f"the learning reward {name!r}"
        with extension_errors(f"{who} failed in step {step.state.elapsed_steps}"):
            given = function(step)
        return _numbers(given, step.state.n_trains, who)

    return reward


def check_own_reward(config: TrainingConfig) -> None:
    """Tells before training what can be told: plays a step of the first level of each environment.

    Raises:
        ExtensionError: see :func:`find_own_reward`.
    """
    if not config.learning_reward:
        return
    reward = find_own_reward(config.learning_reward)
    for env in TrainingLevels(config.training_env, config.seed).first_of_each():
        _try(reward, FlatlandSimulator(env))


def _try(reward: LearningReward, simulator: FlatlandSimulator) -> None:
    state = simulator.state
    before, actions = remaining_travel_time(state), np.full(state.n_trains, DO_NOTHING)
    rewards, over = simulator.step(actions)
    remaining, nobody = remaining_travel_time(state), np.zeros(state.n_trains, dtype=bool)
    happened = rewards, before, remaining, nobody, nobody, nobody, actions, over, state.max_episode_steps
    reward(TrainStep(*happened, state=state))


def _numbers(given: npt.ArrayLike, n_trains: int, who: str) -> npt.NDArray[np.float64]:
    wanted = f"but must give a finite number for each of {n_trains} trains."
    try:
        numbers = np.asarray(given)
    except ValueError:  # ragged
        raise ExtensionError(f"{who} gave lists of different lengths, {wanted}") from None
    if numbers.dtype.kind not in "fiu":
        raise ExtensionError(f"{who} gave values of type {numbers.dtype}, {wanted}")
    if numbers.shape != (n_trains,):
        raise ExtensionError(f"{who} gave an array of shape {list(numbers.shape)}, {wanted}")
    if not np.isfinite(numbers).all():
        raise ExtensionError(f"{who} gave {numbers[~np.isfinite(numbers)][0]}, {wanted}")
    return numbers.astype(np.float64)
