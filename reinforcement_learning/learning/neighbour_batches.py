"""Observations of kept rows, with neighbours put together from their parts."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from utils.observation.neighbour_rows import assemble

SEEN = ("observations", "action_masks", "neighbours", "relations")
"""Fields of rows that observations and action masks are made of; without neighbours the first two."""


def seen_at(rows: npt.NDArray[np.int64], kept: Mapping[str, npt.NDArray[Any]]) -> dict[str, Tensor]:
    """Observations ``[batch, features]`` and action masks ``[batch, 5]`` of some rows of a ring."""
    if "neighbours" in kept:
        own, relations = kept["observations"], kept["relations"]
        n_neighbours, n_relations = relations.shape[1:]
        n_features = own.shape[1] + n_neighbours * (n_relations + own.shape[1])
        observations = np.empty((len(rows), n_features), dtype=np.float32)
        assemble(rows, own, kept["neighbours"], relations, observations)
    else:
        observations = kept["observations"].take(rows, axis=0)  # half the time of an index
    return {
        "observations": torch.from_numpy(observations),
        "action_masks": torch.from_numpy(kept["action_masks"][rows]),
    }


def seen_on_device(rows: Tensor, kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same where rows and ring are on a device. Which kernels run does not depend on what is in them."""
    if "neighbours" in kept:
        observations = assemble_batch(rows, kept["observations"], kept["neighbours"], kept["relations"])
    else:
        observations = kept["observations"].index_select(0, rows)
    return {"observations": observations, "action_masks": kept["action_masks"].index_select(0, rows)}


def assemble_batch(rows: Tensor, own: Tensor, neighbours: Tensor, relations: Tensor) -> Tensor:
    """Observations ``[batch, features]`` of ``rows``, int64 ``[batch]``, as ``neighbour_rows.assemble`` makes them.

    Args:
        rows: which of the kept ones.
        own: float32 ``[kept, own features]``.
        neighbours: int32 ``[kept, most neighbours]``, by how many rows of the ring each lies behind the row itself;
            0 where there is none.
        relations: float32 ``[kept, most neighbours, relations]``.
    """
    ahead = neighbours[rows]
    looked_at = (rows.unsqueeze(1) + ahead) % len(own)
    of_neighbours = own[looked_at].masked_fill_((ahead == 0).unsqueeze(2), 0.0)
    parts = torch.cat([relations[rows], of_neighbours], dim=2)
    return torch.cat([own[rows], parts.flatten(1)], dim=1)
