"""A model's pieces in DeepSpeed's PipelineModule, which gives each rank the pieces of its stage."""

from collections.abc import Sequence
from typing import Any

from deepspeed.pipe import LayerSpec, PipelineModule, TiedLayerSpec
from deepspeed.runtime.pipe.topology import PipeModelDataParallelTopology
from torch import nn

from lmforge_workloads.train.layers import Layers
from lmforge_workloads.train.layout import Layout, stage_bounds
from lmforge_workloads.train.model import Piece


class Stages(PipelineModule):  # type: ignore[misc]
    """Blocks are shared evenly; a tied embedding is on the first stage and, for the logits, on the last."""

    def __init__(self, parts: Sequence[Piece], layers: Layers, layout: Layout) -> None:
        self._blocks = [index for index, part in enumerate(parts) if part.is_block]
        topology = PipeModelDataParallelTopology(num_pp=layout.pipeline, num_mp=layout.tensor, num_dp=layout.data)
        super().__init__(_specs(parts, layers), topology=topology, loss_fn=layers.loss)

    def _partition_layers(self, method: str = "") -> None:
        first, last = self._blocks[0], self._blocks[-1]
        inner = [first + bound for bound in stage_bounds(len(self._blocks), self.num_stages)]
        self.parts = [0, *inner[1:-1], len(self._layer_specs)]
        assert last < self.parts[-1]
        self._set_bounds(start=self.parts[self.stage_id], stop=self.parts[self.stage_id + 1])


class _PieceSpec(LayerSpec):  # type: ignore[misc]
    def __init__(self, piece: Piece) -> None:
        super().__init__(nn.Module)
        self.piece = piece

    def build(self, log: bool = False) -> nn.Module:
        return self.piece.build()


class _TiedPieceSpec(TiedLayerSpec):  # type: ignore[misc]
    def __init__(self, piece: Piece, forward_fn: Any = None) -> None:
        super().__init__("embedding", nn.Module, forward_fn=forward_fn)
        self.piece = piece

    def build(self, log: bool = False) -> nn.Module:
        return self.piece.build()


def _specs(parts: Sequence[Piece], layers: Layers) -> list[LayerSpec]:
    by_name = {part.name: part for part in parts}
    shared = {part.tied_to for part in parts if part.tied_to}
    specs: list[LayerSpec] = []
    for part in parts:
        if part.tied_to:
            specs.append(_TiedPieceSpec(by_name[part.tied_to], lambda module, x: layers.logits(x, module.weight)))
        else:
            specs.append(_TiedPieceSpec(part) if part.name in shared else _PieceSpec(part))
    return specs
