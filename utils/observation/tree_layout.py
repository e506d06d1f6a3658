"""Where the nodes of the tree stand in an observation, for networks that look at it node by node."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TreeLayout:
    """Indices into an observation: ``observations[:, layout.nodes]`` is ``[batch, nodes, features of a node]``.

    Attributes:
        names: of the nodes in preorder: ``root``, ``left``, ``left.left`` and so on.
        node_features: names of the features of a node, in the order of the columns of ``nodes``.
        nodes: int64 [nodes, features of a node].
        parents: int64 [nodes], the row of each node's parent; -1 for the root.
        others: int64 [other features], where all features stand that belong to no node.
    """

    names: tuple[str, ...]
    node_features: tuple[str, ...]
    nodes: NDArray[np.int64]
    parents: NDArray[np.int64]
    others: NDArray[np.int64]


def tree_layout(feature_names: Sequence[str], n_tree_features: int) -> TreeLayout:
    """The layout of observations with these features.

    Args:
        feature_names: of the whole observation; those of nodes are ``NODE.FEATURE`` and come first.
        n_tree_features: how many those are.
    """
    indices: dict[str, list[int]] = {}
    for index, name in enumerate(feature_names[:n_tree_features]):
        indices.setdefault(name.rpartition(".")[0], []).append(index)
    rows = {name: row for row, name in enumerate(indices)}
    root, *below = rows
    return TreeLayout(
        names=tuple(rows),
        node_features=tuple(feature_names[index].rpartition(".")[2] for index in indices[root]),
        nodes=np.array(list(indices.values()), dtype=np.int64),
        parents=np.array([-1] + [rows[name.rpartition(".")[0] or root] for name in below], dtype=np.int64),
        others=np.arange(n_tree_features, len(feature_names), dtype=np.int64),
    )
