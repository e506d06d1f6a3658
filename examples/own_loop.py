"""A training loop of your own: REINFORCE, with one network for all trains. Start here for another algorithm.

pip install -r requirements-pettingzoo.txt && python examples/own_loop.py --episodes 400
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it can be started from any folder

import numpy as np
import torch

from utils.parallel_env import FlatlandParallelEnv

parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
parser.add_argument("--episodes", type=int, default=400, help="episodes to train")
n_episodes = parser.parse_args().episodes

torch.manual_seed(0)
env = FlatlandParallelEnv("Test_0", decision_points="switches")
n_features = env.observation_space("train_0")["observation"].shape[0]
network = torch.nn.Sequential(torch.nn.Linear(n_features, 64), torch.nn.Tanh(), torch.nn.Linear(64, 5))
optimizer = torch.optim.Adam(network.parameters(), lr=3e-4)


def distribution(observations: tuple, masks: tuple) -> torch.distributions.Categorical:
    """Which actions the network would take, of those that are allowed; a row for each train."""
    logits = network(torch.from_numpy(np.stack(observations)))
    return torch.distributions.Categorical(logits=logits.masked_fill(torch.from_numpy(np.stack(masks)) == 0, -1e9))


results: list[tuple[float, float]] = []  # score and share of trains that arrived, of each episode
for episode in range(1, n_episodes + 1):
    observations, infos = env.reset(seed=0 if episode == 1 else None)  # without a seed: the next level
    returns, n_arrived = dict.fromkeys(env.agents, 0.0), 0
    decisions: list[tuple] = []  # (train, observation, mask, action)
    while env.agents:
        deciding = [agent for agent in env.agents if observations[agent]["action_mask"].sum() > 1]
        actions = {}  # the other trains do the only thing that they may do
        if deciding:
            seen, masks = zip(*(observations[agent].values() for agent in deciding), strict=True)
            actions = dict(zip(deciding, distribution(seen, masks).sample().tolist(), strict=True))
            decisions += zip(deciding, seen, masks, actions.values(), strict=True)
        observations, rewards, _, _, infos = env.step(actions)
        for agent, reward in rewards.items():
            returns[agent] += reward / env.simulator.state.max_episode_steps
            n_arrived += infos[agent]["arrived"]
    baseline = np.mean([score for score, _ in results[-20:]]) if results else -0.5
    results.append((sum(returns.values()) / len(returns), n_arrived / len(returns)))
    if decisions:
        trains, seen, masks, chosen = zip(*decisions, strict=True)
        advantage = torch.tensor([returns[train] - baseline for train in trains])
        loss = -(advantage * distribution(seen, masks).log_prob(torch.tensor(chosen))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if episode % 100 == 0 or episode == n_episodes:
        print("episode {}: score {:.3f}, completion {:.1%}".format(episode, *np.mean(results[-100:], axis=0)))
