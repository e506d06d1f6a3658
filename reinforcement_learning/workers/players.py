"""Makes the policies and the experience of a training on this machine, in this process or in others."""

from collections.abc import Callable, Sequence

import torch

from reinforcement_learning.multi_policy.assignment import learning_of
from reinforcement_learning.multi_policy.population import Population
from reinforcement_learning.playing.experience import Experience, LocalExperience
from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.settings.devices import of_pytorch
from reinforcement_learning.workers.process_learner import start_learners
from reinforcement_learning.workers.rollout_workers import RolloutWorkers
from utils.levels.playable_levels import PlayableLevels
from utils.observation.observer import Observer
from utils.system.stopwatch import Stopwatch


def make_players(
    config: TrainingConfig,
    devices: Sequence[str | torch.device] | None,
    levels: PlayableLevels,
    observer: Observer,
    *,
    stopwatch: Stopwatch,
    warn: Callable[[str], None],
) -> tuple[Population, Experience]:
    """The policies, and what plays them. Learner processes start now, those that play when they are first asked to.

    Args:
        devices: where each policy lives; where that is more than one place, each has a process. None: on the CPU.
        stopwatch: gets the seconds that all processes spend, added up.
    """
    feature_set = observer.feature_set
    names = [str(device) for device in devices or ["cpu"] * config.num_policies]
    if len(set(names)) > 1:
        learners = start_learners(config, feature_set, names, stopwatch)
        population = Population(config, feature_set, make_learner=lambda *of_policy: learners[of_policy[2]])
    else:
        population = Population(config, feature_set, [of_pytorch(name) for name in names])
    if config.num_workers > 0:
        return population, RolloutWorkers(config, levels, population, stopwatch=stopwatch, warn=warn)
    return population, LocalExperience(
        levels,
        config.n_episodes,
        observer,
        population.policies,
        learning_of(config, population),
        population.train_settings,
        n_slots=config.num_envs,
        stopwatch=stopwatch,
    )
