"""The layers that a model is built from: whole ones, or megatron-core's, cut over the tensor-parallel ranks.

A model asks a `Layers` for its matrices and knows no more about parallelism. Every parameter carries a `Split`
(as its attribute `tp_split`) that says which part of the whole parameter it is.
Megatron-LM (arXiv:1909.08053), section 3: columns, then rows, with one all-reduce a block in each direction.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from lmforge_workloads.train.startup import neutral_compile


@dataclass(frozen=True)
class Split:
    """How a parameter is cut over tensor-parallel ranks.

    `dim` is the dimension that is cut; None means that every rank holds the whole parameter. `parts` equal blocks
    lie one after the other along it (a fused q, k, v has three), and each is cut by itself.
    """

    dim: int | None = None
    parts: int = 1

    def cut(self, whole: Tensor, *, rank: int, size: int) -> Tensor:
        """The part of `rank`: shape[dim] / size."""
        if self.dim is None or size == 1:
            return whole
        blocks = whole.chunk(self.parts, dim=self.dim)
        return torch.cat([block.chunk(size, dim=self.dim)[rank] for block in blocks], dim=self.dim)

    def join(self, shards: list[Tensor]) -> Tensor:
        """The whole parameter from the parts of all ranks, in rank order."""
        if self.dim is None or len(shards) == 1:
            return shards[0]
        columns = [shard.chunk(self.parts, dim=self.dim) for shard in shards]
        return torch.cat([column[part] for part in range(self.parts) for column in columns], dim=self.dim)


WHOLE = Split()


def split_of(parameter: Tensor) -> Split:
    """The parameter's `Split`; parameters without one (norms) are whole."""
    split: Split = getattr(parameter, "tp_split", WHOLE)
    return split


def mark(parameter: object, split: Split) -> None:
    """Note how a parameter is cut; without one (a layer with no bias) nothing happens."""
    if isinstance(parameter, Tensor):
        parameter.tp_split = split  # type: ignore[attr-defined]


class Layers:
    """Whole layers: what one process alone needs."""

    size = 1
    rank = 0

    def column(self, inputs: int, outputs: int, *, bias: bool = False, parts: int = 1) -> nn.Module:
        """[..., inputs] -> [..., outputs / size]: this rank's columns, `parts` fused matrices side by side."""
        linear = _Linear(inputs, outputs, bias=bias)
        mark(linear.weight, Split(0, parts))
        mark(linear.bias, Split(0, parts))
        return linear

    def row(self, inputs: int, outputs: int, *, bias: bool = False) -> nn.Module:
        """[..., inputs / size] -> [..., outputs], summed over ranks."""
        linear = _Linear(inputs, outputs, bias=bias)
        mark(linear.weight, Split(1))
        return linear

    def embedding(self, vocabulary: int, hidden: int) -> nn.Module:
        """Token ids [B, T] -> [B, T, hidden]; the vocabulary is cut."""
        embedding = _Embedding(vocabulary, hidden)
        mark(embedding.weight, Split(0))
        return embedding

    def logits(self, x_BTD: Tensor, weight_VD: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, V / size] with this rank's rows of the output matrix."""
        return F.linear(x_BTD, weight_VD)

    def loss(self, logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
        """Mean cross entropy over all tokens, in fp32 nats."""
        return F.cross_entropy(logits_BTV.float().flatten(0, 1), targets_BT.flatten())


class TensorParallelLayers(Layers):
    """megatron-core's layers over one process group."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group = group
        self.size = dist.get_world_size(group)
        self.rank = dist.get_rank(group)
        self._core = megatron_layers()
        self._config = self._core.ModelParallelConfig(
            tensor_model_parallel_size=self.size,
            use_cpu_initialization=True,
            perform_initialization=False,
            gradient_accumulation_fusion=False,
        )
        self._core.use_group(group)

    def column(self, inputs: int, outputs: int, *, bias: bool = False, parts: int = 1) -> nn.Module:
        linear = _First(
            self._core.ColumnParallelLinear(
                inputs, outputs, config=self._config, init_method=_no_init, bias=bias, tp_group=self.group
            )
        )
        mark(linear.weight, Split(0, parts))
        mark(linear.bias, Split(0, parts))
        return linear

    def row(self, inputs: int, outputs: int, *, bias: bool = False) -> nn.Module:
        linear = _First(
            self._core.RowParallelLinear(
                inputs, outputs, config=self._config, init_method=_no_init, bias=bias,
                input_is_parallel=True, skip_bias_add=False, tp_group=self.group,
            )
        )  # fmt: skip
        mark(linear.weight, Split(1))
        return linear

    def embedding(self, vocabulary: int, hidden: int) -> nn.Module:
        embedding: nn.Module = self._core.VocabParallelEmbedding(
            vocabulary, hidden, init_method=_no_init, config=self._config, tp_group=self.group
        )
        mark(embedding.weight, Split(0))
        return embedding

    def logits(self, x_BTD: Tensor, weight_VD: Tensor) -> Tensor:
        return F.linear(self._core.copy_to_tensor_model_parallel_region(x_BTD, group=self.group), weight_VD)

    def loss(self, logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
        loss_BT: Tensor = self._core.vocab_parallel_cross_entropy(logits_BTV.float(), targets_BT)
        return loss_BT.mean()


class _Linear(nn.Linear):
    def reset_parameters(self) -> None:
        """Weights are set by name afterwards, so that they are the same in every layout."""


class _Embedding(nn.Embedding):
    def reset_parameters(self) -> None:
        """As for `_Linear`."""


class _First(nn.Module):
    """A megatron-core linear layer as PyTorch has it: `weight` and `bias` at the top, one output."""

    def __init__(self, linear: nn.Module) -> None:
        super().__init__()
        self.weight = linear.weight
        self.bias = linear.bias
        # Not a submodule: its parameters are ours, and must have one name only.
        self._linear: Callable[..., tuple[Tensor, Tensor | None]]
        object.__setattr__(self, "_linear", linear)

    def forward(self, x: Tensor) -> Tensor:
        return self._linear(x)[0]


def _no_init(weight: Tensor) -> Tensor:
    return weight


class _Megatron:
    """The few names of megatron-core that are used here."""

    def __init__(self) -> None:
        from megatron.core import parallel_state
        from megatron.core.model_parallel_config import ModelParallelConfig
        from megatron.core.tensor_parallel import (
            ColumnParallelLinear,
            RowParallelLinear,
            VocabParallelEmbedding,
            copy_to_tensor_model_parallel_region,
            vocab_parallel_cross_entropy,
        )

        self._state: Any = parallel_state
        self.ModelParallelConfig = ModelParallelConfig
        self.ColumnParallelLinear = ColumnParallelLinear
        self.RowParallelLinear = RowParallelLinear
        self.VocabParallelEmbedding = VocabParallelEmbedding
        self.copy_to_tensor_model_parallel_region = copy_to_tensor_model_parallel_region
        self.vocab_parallel_cross_entropy = vocab_parallel_cross_entropy

    def use_group(self, group: dist.ProcessGroup) -> None:
        """Tell megatron-core the tensor-parallel group.

        Its cross entropy takes no group argument, and `initialize_model_parallel` makes some thirty groups for it.
        """
        self._state._TENSOR_MODEL_PARALLEL_GROUP = group


@functools.cache
def megatron_layers() -> _Megatron:
    """Import megatron-core's layers, once (seconds, unless `startup.import_libraries` has done it)."""
    with neutral_compile():
        return _Megatron()
