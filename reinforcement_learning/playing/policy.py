"""What every policy does: choose actions for a batch of trains. Learned and rule-based policies look alike."""

from typing import Protocol

import numpy as np
import numpy.typing as npt


class Policy(Protocol):
    """Chooses actions for trains that have a choice.

    ``observations`` float32 ``[batch, features]`` and ``action_mask`` bool ``[batch, 5]`` describe the deciding
    trains of one or of many environments; the result is an int64 array ``[batch]`` of possible actions.
    """

    def act(
        self,
        observations: npt.NDArray[np.float32],
        action_mask: npt.NDArray[np.bool_],
        epsilon: float | npt.NDArray[np.float64] = 0.0,
    ) -> npt.NDArray[np.int64]:
        """Actions ``[batch]``; with probability ``epsilon`` each is drawn at random from the possible ones.

        ``epsilon`` is one number for all or an array ``[batch]``.
        """
        ...
