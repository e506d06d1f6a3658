"""A learner in a process on this machine, as the training sees it."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reinforcement_learning.dddqn_policy import GreedyPolicy
from reinforcement_learning.dueling_q_network import set_weights
from reinforcement_learning.learning.hosted_learner import BufferElsewhere, LearnerElsewhere, LearnerReport
from reinforcement_learning.learning.hyperparameters import Hyperparameters
from reinforcement_learning.learning.learner import Learner, make_policy
from reinforcement_learning.playing.episode_rows import EpisodeRows
from reinforcement_learning.playing.policy import ActionMasks, Actions, Epsilon, Observations
from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.workers.learner_process import LearnerProcess, LearnerTask
from utils.observation.feature_sets import FeatureSet
from utils.system.stopwatch import Stopwatch


class ProcessLearner(LearnerElsewhere):
    """Learns in another process, to the bit what a ``LocalLearner`` would learn in this one.

    Calls are sent in the order in which they are made, and :meth:`add` and :meth:`learn` do not wait, so that devices
    learn side by side. Whatever reads a result waits for all that was sent before. What has failed is raised by
    :meth:`wait` and :meth:`fetch`; numbers and weights are then those before.
    """

    def __init__(
        self, config: TrainingConfig, feature_set: FeatureSet, index: int, process: LearnerProcess, stopwatch: Stopwatch
    ) -> None:
        self.policy = make_policy(config, feature_set, index, "cpu")
        self.policy.act_by(_NewestWeights(self))
        self.buffer = BufferElsewhere(self)
        self._index, self._process, self._stopwatch = index, process, stopwatch
        self._hyperparameters, self._progress = Hyperparameters.of(config), 0.0
        self._losses: list[torch.Tensor] = []
        self._report = LearnerReport()
        self._newest_weights = (0, self.policy.acting_weights())
        self._state: dict[str, Any] = {}  # as of the last fetch
        # whether anything was sent since it was last asked to learn, for a report, for its state
        self._may_learn, self._report_is_old, self._state_is_old = False, False, True

    # --- learning ------------------------------------------------------------------------------------------------

    def add(self, rows: EpisodeRows) -> None:
        self.tell("add", rows)

    def learn(self) -> None:
        if self._may_learn:
            self.tell("learn")
            self._ask_for_weights()
            self._may_learn = False

    def wait(self) -> None:
        self._renew_report()
        self._process.check()

    def fetch(self) -> None:
        if self._process.is_closed or not self._state_is_old:
            return  # nothing has changed
        self._renew_report()  # which takes the losses from there
        self._state = self.ask("state")
        self._state_is_old = False
        self.policy.load_state_dict(self._state | self._exploration())

    def take_over(self, other: Learner) -> None:
        assert isinstance(other, ProcessLearner)
        other.fetch()
        own = self.state_dict()
        self.policy.take_over(other.policy)
        own.pop("acting", None)  # of what it had learned itself
        self._load(own | self.policy.state_dict())
        self.tell("take_over_buffer", other.ask("buffer_content"))
        self._process.check()

    def lose_device(self) -> None:
        self._process.forget_errors()
        self.tell("lose_device")

    def close(self) -> None:
        self._process.close()

    # --- what the training sees ----------------------------------------------------------------------------------

    @property
    def has_failed(self) -> bool:  # type: ignore[override]
        return self._process.has_failed

    @property
    def newest_weights(self) -> tuple[int, npt.NDArray[np.float32]]:
        self._process.wait()
        return self._newest_weights

    @property
    def losses(self) -> list[torch.Tensor]:  # type: ignore[override]
        self._renew_report()
        return self._losses

    @property
    def progress(self) -> float:
        return self._progress

    @progress.setter
    def progress(self, value: float) -> None:
        self._progress = value
        self.tell("set_progress", value)

    @property
    def report(self) -> LearnerReport:  # type: ignore[override]
        self._renew_report()
        return self._report

    # --- checkpoints ---------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        self.fetch()
        losses = torch.stack(self._losses) if self._losses else torch.empty(0)
        return self._state | self._exploration() | {"losses": losses}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.policy.load_state_dict(state)
        self._load(state)

    # --- calls ---------------------------------------------------------------------------------------------------

    def ask(self, method: str, *arguments: Any) -> Any:
        """What a method of the learner there gives; see ``LearnerProcess.check`` for what is raised."""
        return self._process.ask(self._index, method, *arguments)

    def save_buffer(self, path: str) -> None:
        self.ask("save_buffer", path)

    def restore_buffer(self, path: str) -> None:
        self.tell("restore_buffer", path, done=self._take_report)
        self._process.check()

    def tell(self, method: str, *arguments: Any, done: Callable[[Any], None] = lambda value: None) -> None:
        self._process.tell(self._index, method, *arguments, done=done)
        self._may_learn = self._report_is_old = self._state_is_old = True

    def _ask_for_weights(self) -> None:
        self._process.tell(self._index, "new_weights", done=self._take_weights)

    def _load(self, state: dict[str, Any]) -> None:
        """Has the process go on from a state; losses in it come back with the next report."""
        self._renew_report()
        self._losses.clear()
        self.tell("load_state_dict", state)
        self._ask_for_weights()
        self._process.check()

    def _renew_report(self) -> None:
        if self._report_is_old:
            self._process.tell(self._index, "report", done=self._take_report)
            self._report_is_old = False
            self._process.wait()

    def _take_report(self, report: LearnerReport) -> None:
        self._report = report
        self._losses.extend(torch.tensor(report.losses))
        self._stopwatch.seconds["learn"] += report.seconds

    def _take_weights(self, newest: tuple[int, npt.NDArray[np.float32]] | None) -> None:
        self._newest_weights = newest or self._newest_weights

    def _exploration(self) -> dict[str, Any]:
        """Acting happens here, so what it draws from is known here only."""
        return {"exploration": self.policy.exploration.bit_generator.state}


class _NewestWeights:
    """Acts greedily with the newest weights of a learner, and waits for those that are due."""

    def __init__(self, learner: ProcessLearner) -> None:
        self._learner = learner
        self._network = copy.deepcopy(learner.policy.q_network).requires_grad_(False)
        self._greedy = GreedyPolicy(self._network, torch.device("cpu"))
        self._in_use: npt.NDArray[np.float32] | None = None

    def act(self, observations: Observations, action_mask: ActionMasks, epsilon: Epsilon = 0.0) -> Actions:
        """The best possible actions ``[batch]``, see :class:`~.dddqn_policy.GreedyPolicy`."""
        _, weights = self._learner.newest_weights
        if weights is not self._in_use:
            set_weights(self._network, torch.from_numpy(weights))
            self._in_use = weights
        return self._greedy.act(observations, action_mask, epsilon)


def start_learners(
    config: TrainingConfig, feature_set: FeatureSet, devices: Sequence[str], stopwatch: Stopwatch
) -> list[ProcessLearner]:
    """A learner for each policy, in a process for each device. They are ready; if one fails none is left.

    Raises:
        DeviceError: a device cannot be used.
        ReplayBufferError: it has too little memory for a replay buffer.
        LearnerProcessError: a process cannot be started.
    """
    processes: dict[str, LearnerProcess] = {}
    try:
        for device in dict.fromkeys(devices):
            policies = [p for p, of_policy in enumerate(devices) if of_policy == device]
            processes[device] = LearnerProcess(LearnerTask(config, device, policies))
        learners = [
            ProcessLearner(config, feature_set, p, processes[device], stopwatch) for p, device in enumerate(devices)
        ]
        for process in processes.values():
            process.check()
    except BaseException:  # Ctrl-C, too
        for process in processes.values():
            process.close()
        raise
    return learners
