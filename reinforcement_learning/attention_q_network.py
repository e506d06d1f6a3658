"""A network with which trains see each other: attention over the trains whose ways meet with a train's own.

After the TreeLSTM with attention between trains of https://arxiv.org/abs/2210.12933. There all trains look at all
others; here each looks at its neighbours, see ``utils/observation/neighbours.py``, so that the work for a train does
not grow with the number of trains.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu, scaled_dot_product_attention

from reinforcement_learning.dueling_q_network import DuelingHeads
from utils.observation.feature_sets import FeatureSet
from utils.observation.neighbours import N_RELATIONS, Relation

N_HEADS = 2


class AttentionQNetwork(DuelingHeads):
    """One encoder for all trains, two rounds of attention between a train and its neighbours, then the two streams.

    Args:
        feature_set: what an observation holds.
        hidden_size: width of the hidden layers of the streams; a train is encoded in half as many numbers.
    """

    cuda_graph = True  # see ``learning/step_graph.py``

    def __init__(self, feature_set: FeatureSet, hidden_size: int) -> None:
        super().__init__()
        width = N_HEADS * max(1, hidden_size // (2 * N_HEADS))
        self.n_trains = 1 + feature_set.n_neighbours
        # a neighbour is encoded together with how it is related to the train; to itself a train has no relation
        n_inputs = N_RELATIONS + feature_set.n_own_features
        self.encoder = nn.Sequential(nn.Linear(n_inputs, width), nn.ReLU(), nn.Linear(width, width))
        self.first_round, self.last_round = _Round(width), _Round(width)
        self.add_heads(2 * width, hidden_size)

    def encode(self, observations: Tensor) -> Tensor:
        """What the train is alone, and what it knows of its neighbours after both rounds: ``[batch, 2 x width]``."""
        trains = pad(observations, (N_RELATIONS, 0)).unflatten(1, (self.n_trains, -1))
        is_there = trains[:, :, Relation.THERE] > 0.5
        is_there[:, 0] = True
        encoded = self.encoder(trains)
        seen = self.first_round(encoded, is_there, self.n_trains)
        # what the neighbours would know in the end is of no use
        seen = self.last_round(seen, is_there, 1)
        return torch.cat([relu(encoded[:, 0]), seen[:, 0]], dim=1)


class _Round(nn.Module):
    """A round of attention, residual (Vaswani et al. 2017). The streams behind it have layers enough."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        for parameter in self.output.parameters():  # in the beginning a train goes by what it sees of itself
            nn.init.zeros_(parameter)

    def forward(self, trains: Tensor, is_there: Tensor, n_looking: int) -> Tensor:
        """What the first trains know then, ``[batch, n_looking, width]``.

        Args:
            trains: what all know before, ``[batch, trains, width]``.
            is_there: whom they look at, bool ``[batch, trains]``.
            n_looking: how many of them look.
        """
        normed = self.norm(trains)
        queries = self.query(normed[:, :n_looking]).unflatten(2, (N_HEADS, -1)).transpose(1, 2)
        keys, values = self.key_value(normed).unflatten(2, (2, N_HEADS, -1)).transpose(1, 3).unbind(2)
        attended = scaled_dot_product_attention(queries, keys, values, attn_mask=is_there[:, None, None])
        return trains[:, :n_looking] + self.output(attended.transpose(1, 2).flatten(2))
