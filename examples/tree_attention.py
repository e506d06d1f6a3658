"""A network that looks at the tree node by node: attention between nodes, after Vaswani et al. 2017.

    python reinforcement_learning/multi_agent_training.py -n 2500 -t 1 --network examples.tree_attention:TreeAttention

Each node of the tree is a token: its features, and which node it is. All other features of the train are one more
token. What that token knows of the nodes after two layers of attention gives the values of the actions.
"""

import torch
from torch import Tensor, nn

from utils.observation.feature_sets import FeatureSet
from utils.simulator.rail_grid import DO_NOTHING, STOP_MOVING

WIDTH, N_HEADS, N_LAYERS = 64, 4, 2


class TreeAttention(nn.Module):
    """Action values ``[batch, actions]`` of observations ``[batch, features]``.

    Args:
        feature_set: what an observation holds.
        n_actions: number of actions.
    """

    nodes: Tensor
    others: Tensor

    def __init__(self, feature_set: FeatureSet, n_actions: int) -> None:
        super().__init__()
        tree = feature_set.tree
        n_nodes, n_node_features = tree.nodes.shape
        # buffers go with the network to its device; they are no parameters
        self.register_buffer("nodes", torch.from_numpy(tree.nodes))
        self.register_buffer("others", torch.from_numpy(tree.others))
        self.of_node = nn.Linear(n_node_features, WIDTH)
        self.place = nn.Parameter(0.1 * torch.randn(n_nodes, WIDTH))
        self.of_train = nn.Linear(len(tree.others), WIDTH)
        # dropout would draw random numbers, which a network must not
        layer = nn.TransformerEncoderLayer(WIDTH, N_HEADS, 2 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        self.attention = nn.TransformerEncoder(layer, N_LAYERS, enable_nested_tensor=False)
        last = nn.Linear(WIDTH, n_actions)
        with torch.no_grad():  # trains that wait from the beginning learn nothing
            last.bias[[DO_NOTHING, STOP_MOVING]] -= 0.3
        self.values = nn.Sequential(nn.LayerNorm(WIDTH), last)

    def forward(self, observations: Tensor) -> Tensor:
        """The first token, that of the train, gives the values."""
        nodes = self.of_node(observations[:, self.nodes]) + self.place
        train = self.of_train(observations[:, self.others]).unsqueeze(1)
        return self.values(self.attention(torch.cat([train, nodes], dim=1))[:, 0])
