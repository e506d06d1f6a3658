"""Dueling double DQN: chooses actions, learns from batches, tracks a target network.

Read :meth:`DDDQNPolicy.learn` first. Sources: DQN (Mnih et al. 2015), double DQN (van Hasselt et al. 2016,
https://arxiv.org/abs/1509.06461), dueling networks (Wang et al. 2016).
"""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss

from reinforcement_learning.adam import Adam
from reinforcement_learning.dueling_q_network import (
    action_values,
    clip_gradients,
    network_errors,
    on_cpu,
    polyak_update,
    rank_actions,
    set_weights,
    weights_of,
)
from reinforcement_learning.playing.policy import ActionMasks, Actions, Epsilon, Observations, Policy
from utils.observation.route_features import least_detour_actions
from utils.system.seeds import Stream, generator

DEMONSTRATION_MARGIN = 0.8
"""As in the paper; an arrival is worth about 1."""
_RATES = ("learning_rate", "tau", "advantage_learning", "averaging")
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Batch:
    """Transitions to learn from, as tensors on the learner's device; the leading axis is the batch."""

    observations: Tensor  # float32 [batch, features]
    action_masks: Tensor  # bool [batch, 5]
    actions: Tensor  # int64 [batch]
    rewards: Tensor  # float32 [batch], summed and discounted up to the next decision
    discounts: Tensor  # float32 [batch], gamma**steps, 0 where nothing follows
    next_observations: Tensor  # float32 [batch, features]
    next_action_masks: Tensor  # bool [batch, 5]
    shown: Tensor  # int64 [batch], the action that a plan has shown there, -1 for none


class GreedyPolicy:
    """Plays what a network says is best; it can neither explore nor learn. Evaluation and submission use it."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self.network = network
        self.device = device

    @torch.inference_mode()
    def act(self, observations: Observations, action_mask: ActionMasks, epsilon: Epsilon = 0.0) -> Actions:
        """The best possible actions ``[batch]`` by one forward pass; ``epsilon`` makes no difference."""
        ranks = rank_actions(self.network, torch.from_numpy(observations).to(self.device)).cpu().numpy()
        return np.where(action_mask, ranks, -np.inf).argmax(axis=1)


class DDDQNPolicy:
    """One network that all trains share. ``learning/networks.py`` makes it and tells what it must be able to do.

    Args:
        network: gives action values ``[batch, actions]`` of observations ``[batch, features]``. It may have a method
            ``advantages`` that ranks the actions with less work.
        learning_rate: step size of Adam. There is no gamma here: each transition brings its own discount.
        tau: share of the network that the target network takes over at each learning step.
        advantage_learning: weight that widens the gap between the best action and the others; 0 is off.
        averaging_steps: learning steps over which the weights that are evaluated are averaged; 1 is off.
        max_grad_norm: bound of the gradient's norm.
        guide: share of exploring trains that take the way with the least detour instead of a random action.
        margin: by how much a shown action is to be better than the others; 0 makes nothing of what is shown.
        route_features: where the features that the guide needs stand in an observation; None leaves it out.
        seed: exploration derives from it,
        index: and from the number of the policy, so that no two of a training are equal.
        device: where network and learning live.
        capturable: whether :meth:`step` can be captured in a CUDA graph. The rates that may change from step to step,
            such as tau, are then tensors on the device, which :meth:`set_rates` fills.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        learning_rate: float,
        tau: float,
        advantage_learning: float,
        averaging_steps: int,
        max_grad_norm: float,
        guide: float,
        margin: float = 0.0,
        route_features: slice | None,
        seed: int,
        index: int,
        device: str | torch.device = "cpu",
        capturable: bool = False,
    ) -> None:
        self.device = torch.device(device)
        self.tau = tau
        self.advantage_learning = advantage_learning
        self.averaging_steps = averaging_steps
        self.guide = guide
        self.margin = margin
        self.route_features = route_features
        self.max_grad_norm = max_grad_norm
        self.q_network = network.to(self.device)
        self.target_network = copy.deepcopy(self.q_network).requires_grad_(False)
        self.average_network = copy.deepcopy(self.q_network).requires_grad_(False)
        # asking a network for its parameters takes longer than any arithmetic on them
        networks = self.q_network, self.target_network, self.average_network
        self._parameters, self._of_target, self._of_average = (tuple(network.parameters()) for network in networks)
        self.learning_steps = 0
        self._learning_rate = learning_rate
        self._rates = {name: torch.zeros((), device=self.device) for name in _RATES} if capturable else {}
        self._rates_set: dict[str, float] = {}
        self.optimizer = Adam(self._parameters, self._rate("learning_rate"))
        self.n_loaded = 0  # times that a state was taken over; the optimizer's tensors are others each time
        self.exploration = generator(seed, Stream.EXPLORATION, index)
        self._greedy: Policy = GreedyPolicy(self.q_network, self.device)

    @property
    def learning_rate(self) -> float:
        """Step size of Adam."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._learning_rate = value
        self.optimizer.lr = self._rate("learning_rate")

    @property
    def averaging(self) -> float:
        """Share of the newest weights in the average: a plain mean of all steps at first, an exponential one later."""
        return 1.0 / min(self.learning_steps + 1, self.averaging_steps)

    def _rate(self, name: str) -> float | Tensor:
        """A rate as a learning step reads it."""
        return self._rates[name] if self._rates else float(getattr(self, name))

    def set_rates(self) -> None:
        """Fills the tensors that a captured step reads; where rates are plain numbers there is nothing to do."""
        for name, tensor in self._rates.items():
            value = getattr(self, name)
            if self._rates_set.get(name) != value:
                tensor.fill_(value)
                self._rates_set[name] = value

    def act(self, observations: Observations, action_mask: ActionMasks, epsilon: Epsilon = 0.0) -> Actions:
        """Epsilon-greedy actions ``[batch]``, always possible ones; see :class:`~.policy.Policy`.

        The network sees only the trains that do not explore; where all explore it is not asked at all.
        """
        if np.max(epsilon, initial=0.0) <= 0.0:
            return self._greedy.act(observations, action_mask)
        explores = self.exploration.random(len(observations)) < epsilon
        actions = random_possible_actions(action_mask, self.exploration)
        if self.guide > 0.0 and self.route_features is not None:
            # random play brings hardly a train home, so there is little to learn from it
            guided = explores & (self.exploration.random(len(observations)) < self.guide)
            actions[guided] = least_detour_actions(observations[guided, self.route_features], action_mask[guided])
        if not explores.all():
            greedy = ~explores
            actions[greedy] = self._greedy.act(observations[greedy], action_mask[greedy])
        return actions

    def learn(self, batch: Batch) -> Tensor:
        """One step of gradient descent on a batch; returns the loss, a scalar tensor that nobody waits for."""
        self.set_rates()
        loss = self.step(batch)
        self.learning_steps += 1
        return loss

    def step(self, batch: Batch) -> Tensor:
        """What :meth:`learn` does with tensors; nothing in it reads a number from the device."""
        loss = self.loss(batch)
        self.optimizer.zero_grad()
        with network_errors(self.q_network, batch.observations):
            loss.backward()
        clip_gradients(self._parameters, self.max_grad_norm)
        self.optimizer.step()
        polyak_update(self._parameters, self._of_target, self._rate("tau"))
        polyak_update(self._parameters, self._of_average, self._rate("averaging"))
        return loss.detach()

    def loss(self, batch: Batch) -> Tensor:
        """How far the network is from its targets."""
        td_target = self.td_target(batch)
        q_values = action_values(self.q_network, batch.observations)
        # the value of the action that was taken
        q_taken = q_values.gather(1, batch.actions.unsqueeze(1)).squeeze(1)
        # Huber loss: a train that fails far from its target must not tear the network about
        loss = smooth_l1_loss(q_taken, td_target)
        if self.margin > 0.0:
            loss = loss + self._margin_loss(batch, q_values)
        return loss

    def _margin_loss(self, batch: Batch, q_values: Tensor) -> Tensor:
        """By how much shown actions lack ``margin`` to the best other one that is possible, whichever was taken.

        What was never tried has any value, so demonstrations alone do not tell that their actions are the best ones
        (deep Q-learning from demonstrations, Hester et al. 2018, https://arxiv.org/abs/1704.03732, equation 3).
        """
        shown = batch.shown.clamp(min=0).unsqueeze(1)
        q_shown = q_values.gather(1, shown)
        others = (q_values + self.margin).scatter(1, shown, q_shown)
        best = others.masked_fill(~batch.action_masks, -torch.inf).amax(dim=1)
        lacking = torch.where(batch.shown >= 0, best - q_shown.squeeze(1), 0.0)
        return lacking.mean()

    @torch.no_grad()
    def td_target(self, batch: Batch) -> Tensor:
        """Double-DQN targets ``[batch]``."""
        # the online network chooses the next action, among those that are possible there
        next_scores = rank_actions(self.q_network, batch.next_observations)
        next_actions = next_scores.masked_fill(~batch.next_action_masks, -torch.inf).argmax(dim=1, keepdim=True)
        # the target network says what it is worth
        next_values = action_values(self.target_network, batch.next_observations).gather(1, next_actions).squeeze(1)
        # discount is gamma**steps, and 0 where the train has arrived or the episode is over
        td_target = batch.rewards + batch.discounts * next_values
        if self.advantage_learning > 0.0:
            td_target -= self._rate("advantage_learning") * self._action_gap(batch)
        return td_target

    def _action_gap(self, batch: Batch) -> Tensor:
        """How much worse ``[batch]`` the action that was taken is than the best possible one, by the target network.

        Waiting a step costs next to nothing as long as the train goes on at the next one, so the values of waiting
        and going differ by less than the network's errors, and trains wait for ever. Advantage learning (Baird 1999;
        Bellemare et al. 2016, https://arxiv.org/abs/1512.04860) takes a share of this gap off the targets of actions
        that are not the best: those are worth less, the best one as much as before.
        """
        values = action_values(self.target_network, batch.observations)
        best = values.masked_fill(~batch.action_masks, -torch.inf).amax(dim=1)
        return best - values.gather(1, batch.actions.unsqueeze(1)).squeeze(1)

    def evaluation_policy(self) -> GreedyPolicy:
        """The greedy policy of the averaged weights; on the CPU it keeps up with further learning.

        What has been learned on another device is copied: so few trains at a time are no work for a GPU.

        Q-learning's greedy policy jumps from step to step; the average of many steps is steadier and plays better
        (Polyak and Juditsky 1992; for deep learning Izmailov et al. 2018, https://arxiv.org/abs/1803.05407).
        """
        return GreedyPolicy(on_cpu(self.average_network), _CPU)

    def act_by(self, greedy: Policy) -> None:
        """Acts greedily from now on as another one does, which has a copy of the network that learns."""
        self._greedy = greedy

    def acting_weights(self) -> npt.NDArray[np.float32]:
        """All that acting depends on, in one array, for a policy that plays elsewhere."""
        return weights_of(self.q_network).cpu().numpy()

    def set_acting_weights(self, weights: npt.NDArray[np.float32]) -> None:
        """Acts from now on as the policy does whose ``acting_weights`` these are; it cannot learn on from there."""
        set_weights(self.q_network, torch.from_numpy(weights))

    def take_over(self, other: "DDDQNPolicy") -> None:
        """Becomes a copy of another policy in all that was learned; learning rate and exploration stay its own."""
        state = copy.deepcopy(other.state_dict())
        self.load_state_dict(state | {"exploration": self.exploration.bit_generator.state})

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed training needs, in tensors and plain values."""
        return {
            "q_network": self.q_network.state_dict(),
            "target_network": self.target_network.state_dict(),
            "average_network": self.average_network.state_dict(),
            "learning_steps": self.learning_steps,
            "optimizer": self.optimizer.state_dict(self._learning_rate),
            "exploration": self.exploration.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over a state; the learning rate stays the one given to the constructor.

        Raises:
            RuntimeError: the networks have other layers.
        """
        self.q_network.load_state_dict(state["q_network"])
        self.target_network.load_state_dict(state["target_network"])
        self.average_network.load_state_dict(state["average_network"])
        self.learning_steps = state["learning_steps"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.n_loaded += 1
        self.exploration.bit_generator.state = state["exploration"]


def random_possible_actions(action_mask: ActionMasks, random: np.random.Generator) -> Actions:
    """A possible action for each row of ``action_mask`` ``[batch, 5]``, each equally likely."""
    return np.where(action_mask, random.random(action_mask.shape), -1.0).argmax(axis=1)
