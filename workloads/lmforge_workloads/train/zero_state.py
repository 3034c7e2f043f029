"""Where DeepSpeed's optimizers keep fp32 weights and Adam's moments, seen as `Fragment`s under logical names.

stage 0 in fp32      parameters and moments as PyTorch has them
stage 1 and 2, bf16  one flat fp32 partition a parameter group, a parameter's fragment somewhere in it
stage 3              the same, but every parameter is cut by itself into equal parts, the last one padded
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lmforge_workloads.train.engine import Fragment
from lmforge_workloads.train.layers import split_of
from lmforge_workloads.train.model import named_parameters


class PlainState:
    """Stage 0 in fp32: the optimizer works on the parameters themselves."""

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer, *, first_replica: bool) -> None:
        self.module = module
        self.base = optimizer
        self.first_replica = first_replica
        _allocate(optimizer, [parameter for _, parameter in named_parameters(module)])

    def fragments(self) -> Iterator[Fragment]:
        """One for each parameter."""
        for name, parameter in named_parameters(self.module):
            state = self.base.state[parameter]
            size = tuple(parameter.shape)
            yield _fragment(name, parameter, size, 0, parameter.data, state, owned=self.first_replica)

    def publish(self) -> None:
        """Nothing to do: there is one copy."""


class PartitionedState:
    """Stages 1 and 2, and DeepSpeed's bf16 optimizer: `_hp_mapping` says what of a parameter this rank owns."""

    def __init__(self, module: nn.Module, optimizer: Any) -> None:
        self.module = module
        self.wrapper = optimizer
        self.base: torch.optim.Optimizer = optimizer.optimizer
        self.flat: list[Tensor] = [group["params"][0] for group in self.base.param_groups]
        _allocate(self.base, self.flat)

    def fragments(self) -> Iterator[Fragment]:
        """One for each parameter that reaches into this rank's partition."""
        for name, parameter in named_parameters(self.module):
            mapping = parameter._hp_mapping  # type: ignore[attr-defined]
            if mapping is None:
                continue
            flat = self.flat[mapping.param_group_index]
            at, length = mapping.hp_fragment_address.start, mapping.hp_fragment_address.numel
            state = {key: value.narrow(0, at, length) for key, value in _moments(self.base, flat)}
            weight = flat.data.narrow(0, at, length)
            yield _fragment(name, parameter, tuple(parameter.shape), mapping.lp_fragment_address.start, weight, state)

    def publish(self) -> None:
        """Copy the fp32 partitions into the model's parameters, and gather those of the other ranks."""
        self.wrapper.update_lp_params()


class ShardedState:
    """Stage 3: parameters themselves are partitioned."""

    def __init__(self, module: nn.Module, optimizer: Any) -> None:
        self.module = module
        self.wrapper = optimizer
        self.base: torch.optim.Optimizer = optimizer.optimizer
        self.flat: list[Tensor] = list(optimizer.fp32_partitioned_groups_flat)
        _allocate(self.base, self.flat)

    def fragments(self) -> Iterator[Fragment]:
        """One for each parameter that is long enough to reach this rank."""
        for name, parameter in named_parameters(self.module):
            sharded: Any = parameter
            group, at, length = self.wrapper.grad_position[self.wrapper.get_param_id(parameter)]
            start = length * self.wrapper._get_param_partition_rank(parameter)
            length = min(length, sharded.ds_numel - start)
            if length <= 0:
                continue
            flat = self.flat[group]
            state = {key: value.narrow(0, at, length) for key, value in _moments(self.base, flat)}
            weight = flat.data.narrow(0, at, length)
            yield _fragment(name, parameter, tuple(sharded.ds_shape), start, weight, state)

    def publish(self) -> None:
        """Copy the fp32 partitions into the model's own, and refresh the small parameters that stay gathered."""
        for group in range(len(self.flat)):
            self.wrapper._reassign_or_swap_out_partitioned_parameters(group)
        persistent = self.wrapper.persistent_parameters
        if persistent:
            persistent[0].all_gather(persistent)


OptimizerState = PlainState | PartitionedState | ShardedState


def state_of(module: nn.Module, optimizer: Any, *, first_replica: bool) -> OptimizerState:
    """The view that fits the optimizer that DeepSpeed made; `first_replica` where the data-parallel rank is 0."""
    if hasattr(optimizer, "fp32_partitioned_groups_flat"):
        return ShardedState(module, optimizer)
    if hasattr(optimizer, "update_lp_params"):
        return PartitionedState(module, optimizer)
    return PlainState(module, optimizer, first_replica=first_replica)


def set_updates(state: OptimizerState, updates: int) -> None:
    """Set the number of steps that Adam corrects its bias by."""
    for entry in state.base.state.values():
        entry["step"].fill_(updates)


def get_updates(state: OptimizerState) -> int:
    """The number of steps that Adam has made."""
    return int(next(iter(state.base.state.values()))["step"].item())


def _allocate(optimizer: torch.optim.Optimizer, parameters: list[Any]) -> None:
    """Make Adam's state at once, rather than in its first step, so that it can be filled from a checkpoint."""
    for parameter in parameters:
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter, requires_grad=False),
            "exp_avg_sq": torch.zeros_like(parameter, requires_grad=False),
        }


def _moments(optimizer: torch.optim.Optimizer, flat: Tensor) -> Iterator[tuple[str, Tensor]]:
    state = optimizer.state[flat]
    return ((key, state[key]) for key in ("exp_avg", "exp_avg_sq"))


def _fragment(
    name: str,
    parameter: Tensor,
    size: tuple[int, ...],
    start: int,
    weight: Tensor,
    state: dict[str, Tensor],
    owned: bool = True,
) -> Fragment:
    return Fragment(
        name=name,
        size=size,
        split=split_of(parameter),
        start=start,
        weight=weight.reshape(-1),
        exp_avg=state["exp_avg"].reshape(-1),
        exp_avg_sq=state["exp_avg_sq"].reshape(-1),
        # DeepSpeed marks the second copy of a tied embedding, on the last pipeline stage.
        owned=owned and not getattr(parameter, "ds_pipe_replicated", False),
    )
