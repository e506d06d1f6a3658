"""What runs inside a process that plays beside the learner: a ``RoundPlayer``. See ``rollout_workers``.

PyTorch and flatland-rl are imported late: until then the process already ends with its parent.
"""

import gc
import pickle
import warnings
from collections.abc import Callable

from utils.child_main import Messages, serve


def main() -> None:
    """Serves the parent until it hangs up; never returns."""
    serve(_play_rounds)


def _play_rounds(messages: Messages, send: Callable[[bytes], None]) -> None:
    gc.disable()  # imports leave no garbage that is worth the time
    import torch

    from reinforcement_learning.round_player import RoundPlayer

    warnings.simplefilter("ignore")  # the parent warns of everything itself
    torch.set_num_threads(1)
    player = RoundPlayer(pickle.loads(messages.get()))
    gc.freeze()  # what is there now stays for good and need not be searched again and again
    gc.enable()
    while True:
        # a round is a few large arrays, and pickling those is copying them
        send(pickle.dumps(player.play(pickle.loads(messages.get())), protocol=5))
