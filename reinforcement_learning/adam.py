"""The optimizer: Adam (Kingma and Ba 2015, https://arxiv.org/abs/1412.6980), as PyTorch's fused kernel computes it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

BETAS = 0.9, 0.999
EPS = 1e-8


class Adam:
    """Takes the steps of ``torch.optim.Adam(fused=True)``, to the bit, and keeps the same of each parameter.

    The first optimizer of PyTorch's own imports its compiler, which takes more than a second, and of a step of a small
    network its bookkeeping takes more than the arithmetic.

    Args:
        parameters: what is learned, float32.
        lr: step size; a tensor of one where steps are captured in a CUDA graph.

    Attributes:
        state: what is kept of each parameter that has had a gradient, by its number: ``step``, ``exp_avg`` and
            ``exp_avg_sq``.
    """

    def __init__(self, parameters: Sequence[Tensor], lr: float | Tensor) -> None:
        self.lr = lr
        self.state: dict[int, dict[str, Tensor]] = {}
        self._parameters = tuple(parameters)

    def zero_grad(self) -> None:
        """Forgets all gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Changes all parameters that have a gradient."""
        learning = [i for i, parameter in enumerate(self._parameters) if parameter.grad is not None]
        for i in learning:
            if i not in self.state:
                parameter = self._parameters[i]
                step = torch.zeros((), device=parameter.device)
                means, squares = torch.zeros_like(parameter), torch.zeros_like(parameter)
                self.state[i] = {"step": step, "exp_avg": means, "exp_avg_sq": squares}
        kept = [self.state[i] for i in learning]
        steps = [of_parameter["step"] for of_parameter in kept]
        torch._foreach_add_(steps, 1)
        lr: Any = self.lr  # PyTorch's types know of numbers or of tensors, not of both
        torch._fused_adam_(
            [self._parameters[i] for i in learning],
            [parameter.grad for parameter in self._parameters if parameter.grad is not None],
            [of_parameter["exp_avg"] for of_parameter in kept],
            [of_parameter["exp_avg_sq"] for of_parameter in kept],
            [],
            steps,
            lr=lr,
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=0.0,
            eps=EPS,
            amsgrad=False,
            maximize=False,
        )

    def state_dict(self, lr: float) -> dict[str, Any]:
        """What ``torch.optim.Adam`` would store, with the step size as a plain number."""
        group = {"lr": lr, "betas": BETAS, "eps": EPS, "weight_decay": 0, "amsgrad": False, "maximize": False}
        group |= {"foreach": None, "capturable": False, "differentiable": False, "fused": True}
        group |= {"decoupled_weight_decay": False, "params": list(range(len(self._parameters)))}
        return {"state": self.state, "param_groups": [group]}

    def load_state_dict(self, stored: Mapping[str, Any]) -> None:
        """Keeps a copy of what was stored of each parameter; the step size stays as it is."""
        self.state = {
            i: {name: tensor.to(self._parameters[i].device, copy=True) for name, tensor in kept.items()}
            for i, kept in stored["state"].items()
        }
