"""The network: a dueling architecture (Wang et al. 2016, https://arxiv.org/abs/1511.06581)."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from utils.simulator.rail_grid import DO_NOTHING, N_ACTIONS, STOP_MOVING
from utils.system.device_errors import is_device_error
from utils.system.users_code import RAISED_BY_USERS_CODE, UsersCodeError, describe


class DuelingHeads(nn.Module):
    """One stream for the state's value and one for the advantages of the actions, over what a subclass makes of it."""

    def add_heads(self, n_inputs: int, hidden_size: int, reluctance_to_wait: float = 0.3) -> None:
        """Makes the layers of the two streams.

        Args:
            n_inputs: size of what ``encode`` gives.
            hidden_size: width of the hidden layers.
            reluctance_to_wait: by what a new network values waiting less than going, in units of the reward for an
                arrival. Without it two trainings in three begin with trains that wait, which advantage learning makes
                firm: none departs for hundreds of episodes.
        """
        self.value = nn.Sequential(nn.Linear(n_inputs, hidden_size), nn.ReLU(), nn.Linear(hidden_size, 1))
        hidden, last = nn.Linear(n_inputs, hidden_size), nn.Linear(hidden_size, N_ACTIONS)
        self.advantage = nn.Sequential(hidden, nn.ReLU(), last)
        with torch.no_grad():
            last.bias[[DO_NOTHING, STOP_MOVING]] -= reluctance_to_wait

    def encode(self, observations: Tensor) -> Tensor:
        """What the streams get, ``[batch, n_inputs]``."""
        raise NotImplementedError

    def forward(self, observations: Tensor) -> Tensor:
        """Action values ``[batch, actions]`` of observations ``[batch, features]``.

        The mean of the advantages is taken per sample: over the whole batch, one train's value would depend on
        which other trains happen to be in it.
        """
        encoded = self.encode(observations)
        advantages = self.advantage(encoded)
        return self.value(encoded) + advantages - advantages.mean(dim=1, keepdim=True)

    def advantages(self, observations: Tensor) -> Tensor:
        """Advantages ``[batch, actions]`` alone: enough to rank actions, with less work."""
        return self.advantage(self.encode(observations))


class DuelingQNetwork(DuelingHeads):
    """Two hidden layers, then the two streams.

    Args:
        n_features: what it looks at: so many numbers from an observation's beginning on.
        hidden_size: width of the hidden layers.
    """

    cuda_graph = True  # see ``learning/step_graph.py``

    def __init__(self, n_features: int, hidden_size: int) -> None:
        super().__init__()
        self.n_features = n_features
        self.trunk = nn.Sequential(
            nn.Linear(n_features, hidden_size), nn.ReLU(), nn.Linear(hidden_size, hidden_size), nn.ReLU()
        )
        self.add_heads(hidden_size, hidden_size)

    def encode(self, observations: Tensor) -> Tensor:
        """``[batch, hidden_size]``."""
        return self.trunk(observations[:, : self.n_features])


class NetworkError(UsersCodeError):
    """A network of the user's own fails, or gives something that cannot be used; the message is one sentence."""

    def __init__(self, what: str, network: str) -> None:
        super().__init__(what, network)  # both, or a process that plays could not send it
        self.what = what  # is wrong, as a part of a sentence

    def __str__(self) -> str:
        what, network = self.args
        return f"the network {network!r} {what}."


@contextmanager
def network_errors(network: nn.Module, observations: Tensor) -> Iterator[None]:
    """Turns what the code of a user's network raises into a sentence; the kit's own and a device's errors stay.

    Raises:
        NetworkError: it has raised something.
    """
    try:
        yield
    except RAISED_BY_USERS_CODE as error:  # whatever a user's code raises
        if type(network).__module__.split(".")[0] == __package__ or is_device_error(error):
            raise
        raise network_error(network, f"fails on observations {list(observations.shape)} ({describe(error)})") from error


def action_values(network: nn.Module, observations: Tensor) -> Tensor:
    """Action values ``[batch, actions]`` of observations ``[batch, features]``.

    Raises:
        NetworkError: a network of the user's own fails, or gives something else.
    """
    return _of_each_action(network, network, observations)


def rank_actions(network: nn.Module, observations: Tensor) -> Tensor:
    """Numbers ``[batch, actions]`` that rank the actions as their values do.

    Advantages where the network has a method ``advantages``, which is less work; else the action values themselves.

    Raises:
        NetworkError: a network of the user's own fails, or gives something else.
    """
    # a layer of that name is no method
    compute: Any = network.advantages if hasattr(type(network), "advantages") else network
    return _of_each_action(network, compute, observations)


def _of_each_action(network: nn.Module, compute: Callable[[Tensor], Any], observations: Tensor) -> Tensor:
    with network_errors(network, observations):
        values = compute(observations)
    shape = (len(observations), N_ACTIONS)
    if not isinstance(values, Tensor) or values.shape != shape or values.dtype != torch.float32:
        found = f"{values.dtype} {list(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        of = f"of observations {list(observations.shape)}"
        raise network_error(network, f"gives {found} {of}, but must give {torch.float32} {list(shape)}")
    return values


def network_error(network: nn.Module, what: str) -> NetworkError:
    """Says what is wrong with a network, a part of a sentence."""
    made = type(network)
    return NetworkError(what, f"{made.__module__}:{made.__qualname__}")


def parameters_and_buffers(network: nn.Module) -> list[Tensor]:
    """All numbers that the answers of a network depend on; buffers of other types than floats are constants."""
    return [*network.parameters(), *(buffer for buffer in network.buffers() if buffer.is_floating_point())]


@torch.no_grad()
def weights_of(network: nn.Module) -> Tensor:
    """A copy of all numbers that the answers of a network depend on, in one tensor on its device."""
    return parameters_to_vector(parameters_and_buffers(network))


@torch.no_grad()
def set_weights(network: nn.Module, weights: Tensor) -> None:
    """Gives a network the weights that :func:`weights_of` gave of another one."""
    tensors = parameters_and_buffers(network)
    parts = weights.split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))


def on_cpu(network: nn.Module) -> nn.Module:
    """The network itself where it is on the CPU, else a copy there."""
    if all(tensor.device.type == "cpu" for tensor in (*network.parameters(), *network.buffers())):
        return network
    return copy.deepcopy(network).cpu()


@torch.no_grad()
def polyak_update(parameters: tuple[Tensor, ...], targets: tuple[Tensor, ...], tau: float | Tensor) -> None:
    """``target = (1 - tau) * target + tau * parameter`` for each of them, in one fused call, or in three.

    Buffers stay as they are: no forward pass may change them, see ``check_network``. ``tau`` is a number, or a tensor
    of one on their device, whose value nobody waits for.
    """
    if isinstance(tau, Tensor):
        differences = torch._foreach_sub(parameters, targets)
        torch._foreach_mul_(differences, tau)
        torch._foreach_add_(targets, differences)
    else:
        torch._foreach_lerp_(targets, parameters, tau)


@torch.no_grad()
def clip_gradients(parameters: Sequence[Tensor], max_norm: float) -> None:
    """Scales all gradients together so that their norm is ``max_norm`` at most.

    As ``torch.nn.utils.clip_grad_norm_``, which sorts the gradients by device and type first: most of its time here.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    torch._foreach_mul_(gradients, torch.clamp(max_norm / (norm + 1e-6), max=1.0))
