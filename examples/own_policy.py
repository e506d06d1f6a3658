"""A rule and a policy of one's own, scored beside the trained policy that ships:

    python reinforcement_learning/evaluate_agent.py -e Tiny -n 10 --policy checkpoints/flatland_policy.pt \
        --policy examples.own_policy:OneAfterTheOther --policy examples.own_policy:Hasty

Each is made anew for every level. ``reinforcement_learning/scoring/own_policies.py`` says what is understood.
"""

import numpy as np
import numpy.typing as npt

from utils.rules.shortest_path import shortest_path_actions
from utils.simulator.rail_grid import DO_NOTHING, STOP_MOVING
from utils.simulator.simulator import FlatlandSimulator
from utils.simulator.state_arrays import DONE


class OneAfterTheOther:
    """A rule: sees the whole level. A train departs when the one before it has arrived: safe, and slow."""

    def act(self, simulator: FlatlandSimulator) -> npt.NDArray[np.int64]:
        """An action for each train, ``[trains]``: 0 nothing, 1 left, 2 forward, 3 right, 4 stop."""
        state = simulator.state
        under_way = np.flatnonzero(state.state != DONE)
        actions = np.full(state.n_trains, DO_NOTHING)
        actions[under_way[:1]] = shortest_path_actions(state)[under_way[:1]]
        return actions


class Hasty:
    """A policy: sees what a trained one sees, and never waits if it may go.

    Args:
        seed: of the level; whoever has no use for it leaves it out.
    """

    feature_set = "tree"  # of the kit's; left out, it is the one that trainings have by default

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def act(
        self, observations: npt.NDArray[np.float32], action_mask: npt.NDArray[np.bool_], epsilon: float = 0.0
    ) -> npt.NDArray[np.int64]:
        """A possible action for each train that has a choice, ``[batch]``; the mask is ``[batch, 5]``."""
        going = action_mask.copy()
        going[:, [DO_NOTHING, STOP_MOVING]] = False
        choices = np.where(going.any(axis=1, keepdims=True), going, action_mask)
        return (choices * self._random.random(choices.shape)).argmax(axis=1)
