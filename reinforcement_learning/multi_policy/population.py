"""The policies that are trained together. A training of one policy is a population of one."""

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reinforcement_learning.dddqn_policy import GreedyPolicy
from reinforcement_learning.learning.hyperparameters import Hyperparameters
from reinforcement_learning.learning.learner import BACKUP_EVERY, Learner, LocalLearner
from reinforcement_learning.multi_policy.assignment import Assignment
from reinforcement_learning.multi_policy.even_shares import EvenShares
from reinforcement_learning.multi_policy.exchange import (
    CONTROL,
    KEPT,
    REPLACED,
    choose_fates,
    first_hyperparameters,
    most_n_step,
    perturbed,
    searched,
    within,
)
from reinforcement_learning.playing.episode_rows import EpisodeRows
from reinforcement_learning.playing.experience import ExperienceError
from reinforcement_learning.playing.policy import Policy
from reinforcement_learning.playing.train_settings import TrainSettings
from reinforcement_learning.settings.config import TrainingConfig
from utils.observation.feature_sets import FeatureSet
from utils.simulator.rail_state import RailState
from utils.system.device_errors import describe_device_error
from utils.system.seeds import Stream, generator


class Population:
    """``num_policies`` learners, which share the environments and nothing else.

    Args:
        make_learner: makes a learner of the configuration, the feature set, its number and its device.
    """

    def __init__(
        self,
        config: TrainingConfig,
        feature_set: FeatureSet,
        devices: Sequence[str | torch.device] | None = None,
        make_learner: Callable[[TrainingConfig, FeatureSet, int, str | torch.device], Learner] = LocalLearner,
    ) -> None:
        self.config, self.feature_set = config, feature_set
        self.assignment = Assignment(config)
        self.mapping, self.past_selves = self.assignment.mapping, self.assignment.past_selves
        self.learners = [
            make_learner(config, feature_set, index, device)
            for index, device in enumerate(devices or ["cpu"] * config.num_policies)
        ]
        # all that may drive trains, by their numbers; it grows as older copies are taken
        self.policies: list[Policy] = [learner.policy for learner in self.learners]
        # in the synchronous mode all learn from equally many transitions
        self.even_shares = (
            EvenShares(len(self.learners), most_n_step(config)) if config.policy_mode == "synchronous" else None
        )
        self.trains_driven = np.zeros(len(self.learners), dtype=np.int64)  # in finished episodes
        self.first_hyperparameters = first_hyperparameters(config, generator(config.seed, Stream.EXCHANGE))
        if config.with_pbt:
            self._set_hyperparameters(self.first_hyperparameters)
        self.exchanges: list[dict[str, Any]] = []  # what each has done, in plain values

    def __len__(self) -> int:
        return len(self.learners)

    @property
    def hyperparameters(self) -> list[Hyperparameters]:
        """How each policy learns and explores now."""
        return [learner.hyperparameters for learner in self.learners]

    # --- playing -------------------------------------------------------------------------------------------------

    def train_settings(self, episode: int, state: RailState) -> TrainSettings:
        """Which policy drives which train of a training episode, and with what settings.

        Raises:
            ExtensionError: a user's mapping gives something that is none.
        """
        return self.assignment.train_settings(episode, state, self.hyperparameters)

    # --- learning ------------------------------------------------------------------------------------------------

    def add(self, rows: EpisodeRows) -> None:
        """Hands every row to the learner whose policy has acted. Nobody learns from those of older copies."""
        for p, own in rows.by_policy(len(self)).items():
            taker = self.learners[p].add if self.even_shares is None else partial(self.even_shares.add, p)
            taker(own)

    def after_episode(self, episode: int, policy_of_train: npt.NDArray[np.int64]) -> None:
        """Counts the trains that each policy has driven in an episode, the ``episode``-th that is finished."""
        self.trains_driven += np.bincount(policy_of_train, minlength=len(self))[: len(self)]
        self.set_progress(episode)
        if self.past_selves.is_due(episode):
            self.fetch()
            self.past_selves.take([learner.policy for learner in self.learners])
            self.policies[len(self) :] = self.past_selves.policies

    def set_progress(self, episode: int) -> None:
        """Tells the learners how many episodes of the training are over."""
        for learner in self.learners:
            learner.progress = episode / self.config.n_episodes

    def learn(self) -> None:
        """Takes the learning steps that are due; other processes only begin with them."""
        shares = [] if self.even_shares is None else self.even_shares.take()
        for p, share in enumerate(shares):
            for rows in share:
                self.learners[p].add(rows)
        for learner in self.learners:
            learner.learn()

    def wait(self) -> None:
        """Waits for all policies that learn in other processes; the first error from there is raised here."""
        failed: list[Exception] = []
        for learner in self.learners:
            try:
                learner.wait()
            except Exception as error:
                failed.append(error)
        if failed:
            raise failed[0]

    @property
    def has_failed(self) -> bool:
        """Whether :meth:`wait` is known to raise something."""
        return any(learner.has_failed for learner in self.learners)

    def close(self) -> None:
        """Ends what learns elsewhere."""
        for learner in self.learners:
            learner.close()

    def fetch(self) -> None:
        """Brings the copies of policies that learn elsewhere up to date."""
        for learner in self.learners:
            learner.fetch()

    def lose_devices(self, error: RuntimeError) -> ExperienceError:
        """Takes note that a GPU has failed: nothing is read from any of them. Returns what to say of it."""
        for learner in self.learners:
            learner.lose_device()
        return ExperienceError(
            f"a GPU has failed in mid-training ({describe_device_error(error)}); what was learned on GPUs since it was "
            f"last copied from there, {BACKUP_EVERY} learning steps at most, is lost."
        )

    def forget_losses(self) -> None:
        """Clears the losses: those that follow belong to the next episode."""
        for learner in self.learners:
            learner.losses.clear()

    def evaluation_policies(self) -> list[GreedyPolicy]:
        """What each policy plays when it is evaluated; they keep up with further learning."""
        return [learner.policy.evaluation_policy() for learner in self.learners]

    def exchange(self, episode: int, reached: npt.NDArray[np.float64]) -> None:
        """One step of population-based training.

        Args:
            reached: what each policy has reached on each level alone, by the objective, ``[policies, levels]``.
        """
        config = self.config
        random = generator(config.seed, Stream.EXCHANGE, 1 + len(self.exchanges))
        fates = choose_fates(reached, config.pbt_share, config.pbt_min_gap, config.pbt_min_errors, random)
        before, default, bounds = self.hyperparameters, Hyperparameters.of(config), searched(config)
        for p, (learner, fate) in enumerate(zip(self.learners, fates, strict=True)):
            if fate.kind == REPLACED:  # its source is one of those that are kept
                learner.take_over(self.learners[fate.source])
            if fate.kind != KEPT and p != CONTROL:
                learner.hyperparameters = perturbed(before[fate.source], default, bounds, random)
        self.exchanges.append(
            {
                "episode": episode,
                "objective": config.pbt_objective,
                "scores": reached.mean(axis=1).tolist(),
                "kinds": [fate.kind for fate in fates],
                "sources": [fate.source for fate in fates],
                "hyperparameters": [dataclasses.asdict(learner.hyperparameters) for learner in self.learners],
            }
        )

    # --- numbers -------------------------------------------------------------------------------------------------

    @property
    def n_transitions(self) -> int:
        """Transitions in all replay buffers."""
        return sum(len(learner.buffer) for learner in self.learners)

    @property
    def n_added(self) -> int:
        """Transitions collected so far."""
        return sum(learner.buffer.n_added for learner in self.learners)

    @property
    def learning_steps(self) -> int:
        """Learning steps of all policies so far."""
        return sum(learner.learning_steps for learner in self.learners)

    @property
    def replay_ratio(self) -> float:
        """How often a transition has been learned from, on average over the policies; NaN before any learning."""
        ratios = [learner.replay_ratio for learner in self.learners if not math.isnan(learner.replay_ratio)]
        return sum(ratios) / len(ratios) if ratios else math.nan

    # --- checkpoints ---------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed training needs but the content of the replay buffers."""
        return {
            "policies": [learner.state_dict() for learner in self.learners],
            "trains_driven": self.trains_driven.tolist(),
            "past_selves": self.past_selves.state_dict(),
            "first_hyperparameters": [dataclasses.asdict(values) for values in self.first_hyperparameters],
            "exchanges": copy.deepcopy(self.exchanges),
            # without the replay buffers there is nothing that they could be added to
            "waiting": self.even_shares.state_dict() if self.even_shares and self.config.save_replay_buffer else [],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over a state."""
        for learner, of_learner in zip(self.learners, state["policies"], strict=True):
            learner.load_state_dict(of_learner)
        self.trains_driven[:] = state["trains_driven"]
        self.past_selves.load_state_dict(state["past_selves"], [learner.policy for learner in self.learners])
        self.policies[len(self) :] = self.past_selves.policies
        if self.even_shares and state.get("waiting"):
            self.even_shares.load_state_dict(state["waiting"], self.feature_set)
        self.exchanges = copy.deepcopy(state["exchanges"])
        self._resume_search(state)

    def _resume_search(self, state: dict[str, Any]) -> None:
        """Goes on with what was found by then; the control keeps what the command line says.

        A training that has searched nothing so far begins its search now.
        """
        if not state["config"].get("with_pbt"):
            return
        given, bounds = Hyperparameters.of(self.config), searched(self.config)
        # earlier versions began with the same everywhere, and searched less
        first = state.get("first_hyperparameters") or [{}] * len(self)
        self.first_hyperparameters = [dataclasses.replace(given, **of_policy) for of_policy in first]
        newest = self.exchanges[-1]["hyperparameters"] if self.exchanges else first
        found = [within(of_policy, given, bounds) for of_policy in newest]
        self._set_hyperparameters([given, *found[CONTROL + 1 :]])

    def _set_hyperparameters(self, values: Sequence[Hyperparameters]) -> None:
        for learner, of_policy in zip(self.learners, values, strict=True):
            learner.hyperparameters = of_policy
