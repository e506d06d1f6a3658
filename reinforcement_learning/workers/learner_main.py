"""What runs inside a process that ``learner_process`` has started: the learners of a device.

PyTorch is imported late: until then the process already ends with its parent.
"""

import gc
import pickle
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any

from utils.system.child_main import Messages, serve


def main() -> None:
    """Serves the parent until it hangs up; never returns."""
    serve(_learn)


def _learn(messages: Messages, send: Callable[[bytes], None]) -> None:
    gc.disable()  # imports leave no garbage that is worth the time
    import torch

    from reinforcement_learning.learning.hosted_learner import HostedLearner
    from reinforcement_learning.settings.devices import of_pytorch, on_device

    warnings.simplefilter("ignore")  # the parent warns of everything itself
    sys.path[:], task = pickle.loads(messages.get())
    device = of_pytorch(task.device)

    def begin() -> None:
        if torch.device(device).type == "cuda":
            with on_device(device):  # what PyTorch keeps for itself would lie on GPU 0, too, once for each process
                torch.cuda.set_device(device)
        learners.update({policy: HostedLearner(task.config, policy, device) for policy in task.policies})

    learners: dict[int, HostedLearner] = {}
    send(_answer(begin))
    gc.freeze()  # what is there now stays for good and need not be searched again and again
    gc.enable()
    while True:
        policy, method, arguments = pickle.loads(messages.get())
        send(_answer(getattr(learners[policy], method), *arguments))


def _answer(function: Callable[..., Any], *arguments: Any) -> bytes:
    """What a call gives, and None; or None, and what it raises."""
    try:
        return pickle.dumps((function(*arguments), None), protocol=5)
    except Exception as error:
        error.add_note(f"It was raised in a learner process:\n{traceback.format_exc()}")
        return pickle.dumps((None, error), protocol=5)
