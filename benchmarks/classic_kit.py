"""The way the classic starter kit works, as the yardstick of the benchmarks: clear, and without any of our speed-ups.

flatland's own tree builder, its normalisation in Python, a forward pass per train, a deque of tuples, a learning step
of batch 128 per 8 transitions with the default Adam, and a target network updated parameter by parameter.
"""

import random
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from flatland.envs.observations import Node, TreeObsForRailEnv
from flatland.envs.predictions import ShortestPathPredictorForRailEnv
from flatland.envs.rail_env import RailEnv
from torch import nn
from torch.nn.functional import mse_loss

MAX_DEPTH, RADIUS, PREDICTED_STEPS = 2, 10, 30
N_FEATURES, N_ACTIONS = 231, 5
HIDDEN_SIZE, BATCH_SIZE, UPDATE_EVERY, BUFFER_SIZE = 128, 128, 8, 100_000
GAMMA, TAU, LEARNING_RATE = 0.99, 0.5e-3, 0.5e-4
BRANCHES = ("L", "F", "R", "B")


def tree_builder(env: RailEnv) -> TreeObsForRailEnv:
    """flatland's builder, ready for an environment."""
    builder = TreeObsForRailEnv(MAX_DEPTH, ShortestPathPredictorForRailEnv(PREDICTED_STEPS))
    builder.reset(env)
    return builder


def _split(node: Any, depth: int) -> tuple[list[float], list[float], list[float]]:
    if not isinstance(node, Node):
        n_missing = (4 ** (MAX_DEPTH - depth + 1) - 1) // 3
        return [-np.inf] * 6 * n_missing, [-np.inf] * n_missing, [-np.inf] * 4 * n_missing
    data, distance, counts = list(node[:6]), [node[6]], list(node[7:11])
    if depth < MAX_DEPTH:
        for branch in BRANCHES:
            below = _split(node.childs[branch], depth + 1)
            data += below[0]
            distance += below[1]
            counts += below[2]
    return data, distance, counts


def _clip(values: npt.NDArray[np.float64], radius: int = 0, to_range: bool = False) -> npt.NDArray[np.float64]:
    largest = radius if radius > 0 else max(1, max((v for v in values if 0 <= v < 1000), default=0)) + 1
    smallest = min((v for v in values if v >= 0), default=np.inf) if to_range else 0
    smallest = min(smallest, largest)
    if largest == smallest:
        return np.clip(values / largest, -1, 1)
    return np.clip((values - smallest) / abs(largest - smallest), -1, 1)


def normalize(tree: Node) -> npt.NDArray[np.float64]:
    """231 numbers of a tree, as the classic kit makes them."""
    data, distance, counts = _split(tree, 0)
    return np.concatenate(
        (
            _clip(np.array(data, dtype=float), RADIUS),
            _clip(np.array(distance, dtype=float), to_range=True),
            np.clip(np.array(counts, dtype=float), -1, 1),
        )
    )


class ClassicNetwork(nn.Module):
    """The classic kit's dueling network: two streams from the input on."""

    def __init__(self) -> None:
        super().__init__()
        self.value, self.advantage = _stream(1), _stream(N_ACTIONS)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Action values ``[batch, 5]``; the mean over the whole batch is the classic kit's."""
        advantages = self.advantage(observations)
        return self.value(observations) + advantages - advantages.mean()


def _stream(n_outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(N_FEATURES, HIDDEN_SIZE),
        nn.ReLU(),
        nn.Linear(HIDDEN_SIZE, HIDDEN_SIZE),
        nn.ReLU(),
        nn.Linear(HIDDEN_SIZE, n_outputs),
    )


class ClassicPolicy:
    """Acts for one train at a time and learns from a deque of tuples."""

    def __init__(self) -> None:
        self.network, self.target = ClassicNetwork(), ClassicNetwork()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=LEARNING_RATE)
        self.memory: deque[tuple[Any, int, float, Any, bool]] = deque(maxlen=BUFFER_SIZE)
        self._steps = 0

    def act(self, observation: npt.NDArray[np.float64], epsilon: float) -> int:
        """An epsilon-greedy action; the forward pass is made in any case."""
        self.network.eval()
        with torch.no_grad():
            values = self.network(torch.from_numpy(observation).float().unsqueeze(0))
        self.network.train()
        if random.random() > epsilon:
            return int(np.argmax(values.numpy()))
        return random.randrange(N_ACTIONS)

    def step(self, observation: Any, action: int, reward: float, next_observation: Any, done: bool) -> None:
        """Remembers a transition; every eighth brings a learning step."""
        self.memory.append((observation, action, reward, next_observation, done))
        self._steps += 1
        if self._steps % UPDATE_EVERY == 0 and len(self.memory) > BATCH_SIZE:
            self.learn()

    def learn(self) -> None:
        """One step on a batch of 128."""
        sample = random.sample(self.memory, k=BATCH_SIZE)
        observations = torch.from_numpy(np.vstack([row[0] for row in sample])).float()
        actions = torch.from_numpy(np.vstack([row[1] for row in sample])).long()
        rewards = torch.from_numpy(np.vstack([row[2] for row in sample])).float()
        next_observations = torch.from_numpy(np.vstack([row[3] for row in sample])).float()
        dones = torch.from_numpy(np.vstack([row[4] for row in sample]).astype(np.uint8)).float()
        expected = self.network(observations).gather(1, actions)
        best = self.network(next_observations).max(1)[1].unsqueeze(-1)
        following = self.target(next_observations).gather(1, best).detach()
        loss = mse_loss(expected, rewards + GAMMA * following * (1 - dones))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        for target, parameter in zip(self.target.parameters(), self.network.parameters(), strict=True):
            target.data.copy_(TAU * parameter.data + (1.0 - TAU) * target.data)


def train_episode(env: RailEnv, policy: ClassicPolicy, epsilon: float, *, learn: bool) -> int:
    """One episode in the classic way on a freshly reset environment; returns its steps."""
    builder = tree_builder(env)
    handles = list(range(env.get_num_agents()))
    observations = {handle: normalize(tree) for handle, tree in builder.get_many(handles).items()}
    previous: dict[int, tuple[Any, int]] = {}
    required = dict.fromkeys(handles, True)
    n_steps, over = 0, False
    while not over:
        actions = {}
        for handle in handles:
            actions[handle] = policy.act(observations[handle], epsilon) if required[handle] else 0
            if required[handle]:
                previous[handle] = (observations[handle], actions[handle])
        _, rewards, dones, info = env.step(actions)
        over, n_steps = dones["__all__"], n_steps + 1
        trees = builder.get_many(handles)
        for handle in handles:
            if handle in previous and (required[handle] or dones[handle]) and learn:
                observation, action = previous[handle]
                policy.step(observation, action, rewards[handle], observations[handle], dones[handle])
            if info["action_required"][handle]:
                observations[handle] = normalize(trees[handle])
        required = info["action_required"]
    return n_steps
