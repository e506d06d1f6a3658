"""What runs inside a process that ``rollout_workers`` has started: a ``RoundPlayer``.

PyTorch and flatland-rl are imported late: until then the process already ends with its parent.
"""

import gc
import pickle
import sys
import warnings
from collections.abc import Callable

from utils.system.child_main import Messages, serve


def main() -> None:
    """Serves the parent until it hangs up; never returns."""
    serve(_play_rounds)


def _play_rounds(messages: Messages, send: Callable[[bytes], None]) -> None:
    gc.disable()  # imports leave no garbage that is worth the time
    import torch

    from reinforcement_learning.workers.round_player import Round, RoundPlayer
    from utils.system.users_code import UsersCodeError

    warnings.simplefilter("ignore")  # the parent warns of everything itself
    torch.set_num_threads(1)
    sys.path[:], task = pickle.loads(messages.get())
    player = RoundPlayer(task)
    gc.freeze()  # what is there now stays for good and need not be searched again and again
    gc.enable()
    while True:
        answer: Round | UsersCodeError
        try:
            answer = player.play(pickle.loads(messages.get()))
        except UsersCodeError as error:
            answer = error
        # a round is a few large arrays, and pickling those is copying them
        send(pickle.dumps(answer, protocol=5))
