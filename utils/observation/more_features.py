"""Features of the user's own, which follow those of a feature set in every observation.

``examples/more_features.py`` has some.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from utils.simulator.rail_state import RailState
from utils.system.users_code import RAISED_BY_USERS_CODE, UsersCodeError, describe


class FeaturesError(UsersCodeError):
    """A user's features cannot be used; the message is one sentence."""


class MoreFeatures(Protocol):
    """More features of a train.

    Attributes:
        name, version: tell them apart in checkpoints: a change of what the numbers mean, or how many there are, needs
            another version.
        n_features: how many numbers they are.
    """

    name: str
    version: int
    n_features: int

    def __call__(self, state: RailState, /) -> npt.ArrayLike:
        """Numbers ``[trains, n_features]``, all finite, best between -1 and 1.

        Args:
            state: the level and its trains, to be read only. It is asked about once for each observation, whichever
                level it is of, so nothing should be kept from one call to the next.
        """


def checked_features(more: MoreFeatures, state: RailState) -> NDArray[np.float32]:
    """The features of all trains, float32 ``[trains, n_features]``.

    Raises:
        FeaturesError: the user's code fails, or gives something else.
    """
    who = f"the features {more.name!r} version {more.version}"
    try:
        given = np.asarray(more(state))
    except RAISED_BY_USERS_CODE as error:  # whatever a user's code raises
        raise FeaturesError(f"{who} failed ({describe(error)}).") from error
    wanted = (state.n_trains, more.n_features)
    if given.shape != wanted or given.dtype.kind not in "biuf":
        raise FeaturesError(
            f"{who} gave {given.dtype} of shape {given.shape}, but must give numbers of shape {wanted}: a row for each "
            "train."
        )
    with np.errstate(over="ignore"):
        numbers = given.astype(np.float32)
    if not np.isfinite(numbers).all():
        train, number = np.argwhere(~np.isfinite(numbers))[0].tolist()
        raise FeaturesError(
            f"{who} gave {given[train, number]} as number {number} of train {train} at step {state.elapsed_steps}, but "
            "must give finite numbers."
        )
    return numbers
