"""The learning step on a GPU: captured once as a CUDA graph, and then replayed with other inputs.

A step is some hundred small kernels. To launch them one by one takes longer than to compute them; a graph is launched
as a whole. A network takes part whose class says ``cuda_graph = True``: it promises that each forward pass launches
the same kernels. So nothing that Python decides or computes in it may depend on what is in a tensor (no ``.item()``, no
indexing by a mask), or change from call to call. Steps of other networks are launched kernel by kernel.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from reinforcement_learning.dddqn_policy import DDDQNPolicy
from reinforcement_learning.dueling_q_network import network_error
from reinforcement_learning.learning.device_mirror import empty_draw, pinned
from reinforcement_learning.learning.replay_buffer import ReplayBuffer
from reinforcement_learning.playing.reward_shaping import RewardWeights
from utils.system.device_errors import describe_device_error

WARM_UP_STEPS = 3
"""Steps before a capture, in which PyTorch sets up what it cannot set up in a graph. They count as any other."""


class StepGraph(Protocol):
    """Computes a function without arguments again and again, always on the same tensors."""

    def warm_up(self, function: Callable[[], Tensor]) -> Tensor:
        """Calls it, and returns what it gives."""
        ...

    def capture(self, function: Callable[[], Tensor]) -> None:
        """Notes what it does, without doing it; what was noted before is forgotten."""
        ...

    def replay(self) -> Tensor:
        """Does what was noted; the result is the caller's own."""
        ...


class PlainCalls:
    """A graph that is none: the function is called each time."""

    def warm_up(self, function: Callable[[], Tensor]) -> Tensor:
        return function()

    def capture(self, function: Callable[[], Tensor]) -> None:
        self._function = function

    def replay(self) -> Tensor:
        return self._function()


class CudaGraph:
    """A CUDA graph.

    Args:
        device: where all tensors are.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # of this device: the stream that PyTorch would take may be another's

    def warm_up(self, function: Callable[[], Tensor]) -> Tensor:
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            result = function()
        current.wait_stream(self._stream)
        return result

    def capture(self, function: Callable[[], Tensor]) -> None:
        self._graph = torch.cuda.CUDAGraph()
        # thread_local: other threads may do with their devices what they like meanwhile
        graph = torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local")
        with torch.cuda.device(self._device), graph:
            self._result = function()

    def replay(self) -> Tensor:
        self._graph.replay()
        return self._result.clone()  # the next replay overwrites it


def graph_for(policy: DDDQNPolicy) -> StepGraph:
    """A CUDA graph where device and network allow it."""
    if policy.device.type == "cuda" and getattr(policy.q_network, "cuda_graph", False):
        return CudaGraph(policy.device)
    return PlainCalls()


class GraphedStep:
    """The learning step of a policy: copies the inputs, replays, counts.

    What may change from step to step is in tensors that stay where they are: the drawn numbers, the policy's rates, the
    copy of the replay buffer, weights and what the optimizer keeps. Where something else changes, it is captured anew.

    Args:
        policy: a capturable one.
        buffer: what it learns from.
        graph: how steps are repeated.

    Raises:
        ReplayBufferError: the copy of the replay buffer does not fit onto the device.
    """

    def __init__(self, policy: DDDQNPolicy, buffer: ReplayBuffer, graph: StepGraph | None = None) -> None:
        self._policy, self._buffer = policy, buffer
        self._mirror = buffer.mirror_on(policy.device)
        self._graph = graph or graph_for(policy)
        self._captured_for: tuple[object, ...] = ()
        self._n_warm = 0
        self._is_captured = False
        self._input = empty_draw(0, policy.device)

    def rehearse(self, batch_size: int) -> None:
        """Computes a gradient that is thrown away, so that a device that cannot do it says so before the training."""
        loss = self._policy.loss(self._mirror.batch(empty_draw(batch_size, self._policy.device)))
        loss.backward()
        self._policy.q_network.zero_grad(set_to_none=True)
        loss.item()  # errors of a GPU come out when something waits for it

    def learn(self, batch_size: int, weights: RewardWeights, n_step: int) -> Tensor:
        """Draws a batch and takes a learning step; returns the loss, for which nobody waits."""
        policy = self._policy
        self._mirror.catch_up(self._buffer.n_rows_added)
        draw = self._buffer.draw(batch_size, weights, n_step)
        self._begin_anew_if_needed(batch_size)
        self._input.whole.copy_(pinned(draw.whole, policy.device), non_blocking=True)
        self._input.floats.copy_(pinned(draw.floats, policy.device), non_blocking=True)
        policy.set_rates()
        loss = self._step()
        policy.learning_steps += 1
        return loss

    def _begin_anew_if_needed(self, batch_size: int) -> None:
        needed_for = batch_size, self._policy.advantage_learning > 0.0, self._policy.n_loaded
        if needed_for != self._captured_for:
            self._captured_for, self._n_warm, self._is_captured = needed_for, 0, False
            self._input = empty_draw(batch_size, self._policy.device)

    def _step(self) -> Tensor:
        if self._n_warm < WARM_UP_STEPS:
            self._n_warm += 1
            return self._graph.warm_up(self._compute)
        if not self._is_captured:
            self._capture()
            self._is_captured = True
        return self._graph.replay()

    def _capture(self) -> None:
        """Raises NetworkError where the network promises what it does not keep."""
        try:
            self._graph.capture(self._compute)
        except RuntimeError as error:
            if "captur" not in str(error):
                raise
            what = f"says cuda_graph = True, but cannot be captured ({describe_device_error(error)})"
            raise network_error(self._policy.q_network, what) from error

    def _compute(self) -> Tensor:
        return self._policy.step(self._mirror.batch(self._input))
