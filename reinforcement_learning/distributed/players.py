"""Makes the policies and the experience of a training on Ray: both learning and playing happen in actors."""

from collections.abc import Callable, Sequence

import torch

from reinforcement_learning.distributed.answers import Answers
from reinforcement_learning.distributed.local_ray import LocalRay
from reinforcement_learning.distributed.placement import place_learners
from reinforcement_learning.distributed.ray_experience import RayExperience
from reinforcement_learning.distributed.remote_learner import RemoteLearner
from reinforcement_learning.multi_policy.population import Population
from reinforcement_learning.playing.experience import Experience
from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.settings.devices import of_pytorch
from utils.levels.playable_levels import PlayableLevels
from utils.observation.feature_sets import FeatureSet
from utils.system.stopwatch import Stopwatch


def make_players(
    config: TrainingConfig,
    feature_set: FeatureSet,
    devices: Sequence[str | torch.device] | None,
    levels: PlayableLevels,
    *,
    stopwatch: Stopwatch,
    stop_requested: Callable[[], bool],
    warn: Callable[[str], None],
) -> tuple[Population, Experience]:
    """The policies, whose learners start now, and what plays them, which starts when it is first asked to.

    This process has to be connected to Ray.

    Args:
        devices: where each policy lives, see ``place_learners``; None: on CPUs.
        levels: what is played; the actors make their own.
        stopwatch: gets the seconds that the actors spend, added up.
    """
    # each policy has an actor of its own anyway
    names = [of_pytorch(str(device)) for device in devices or ["cpu"] * config.num_policies]
    places = place_learners(names, on_cluster=config.ray_address != "")
    answers = Answers(LocalRay().check, stop_requested)
    learners = [
        RemoteLearner(config, feature_set, index, place, answers, stopwatch, warn) for index, place in enumerate(places)
    ]
    population = Population(config, feature_set, make_learner=lambda *of_policy: learners[of_policy[2]])
    experience = RayExperience(
        config, levels, learners, population.past_selves, answers, stopwatch=stopwatch, warn=warn
    )
    return population, experience
