"""Observations with neighbours, put together from kept parts where the learner is."""

import torch
from torch import Tensor


def assemble_batch(rows: Tensor, own: Tensor, neighbours: Tensor, relations: Tensor) -> Tensor:
    """Observations ``[batch, features]`` of ``rows``, int64 ``[batch]``, as ``neighbour_rows.assemble`` makes them.

    Args:
        rows: which of the kept ones.
        own: float32 ``[kept, own features]``.
        neighbours: int64 ``[kept, most neighbours]``, rows of ``own``; negative where there is none.
        relations: float32 ``[kept, most neighbours, relations]``.
    """
    looked_at = neighbours[rows]
    of_neighbours = own[looked_at.clamp(min=0)].masked_fill_(looked_at.unsqueeze(2) < 0, 0.0)
    parts = torch.cat([relations[rows], of_neighbours], dim=2)
    return torch.cat([own[rows], parts.flatten(1)], dim=1)
