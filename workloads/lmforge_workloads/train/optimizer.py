"""AdamW with weight decay on matrices only, torch's fused one on every device."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lmforge_api.trainingjob import Optimizer
from lmforge_workloads.train.model import named_parameters


class AdamW(torch.optim.AdamW):
    """torch's own (arXiv:1711.05101), whose `step` does not import dynamo only to tell it to stay away."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        _STEP(self)


_STEP: Callable[[AdamW], Any] = inspect.unwrap(torch.optim.AdamW.step)


def adamw(module: nn.Module, settings: Optimizer) -> AdamW:
    """An optimizer for all parameters of `module`."""
    betas = (settings.beta1, settings.beta2)
    groups = _decay_groups(module, settings.weight_decay)
    return AdamW(groups, lr=settings.learning_rate, betas=betas, eps=settings.epsilon, fused=True)


def _decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    parameters = [parameter for _, parameter in named_parameters(module)]
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in parameters if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
