"""Which rank does what: data × tensor × pipeline, and the process groups for it.

Tensor-parallel ranks are neighbours (they talk most), then data, then pipeline: megatron-core's and DeepSpeed's order.
"""

from dataclasses import dataclass

import torch.distributed as dist


@dataclass(frozen=True)
class Layout:
    """The place of one rank."""

    data: int
    tensor: int
    pipeline: int
    rank: int

    @property
    def world(self) -> int:
        """Ranks in all."""
        return self.data * self.tensor * self.pipeline

    @property
    def tensor_rank(self) -> int:
        """Which part of each matrix."""
        return self.rank % self.tensor

    @property
    def data_rank(self) -> int:
        """Which part of each batch."""
        return self.rank // self.tensor % self.data

    @property
    def stage(self) -> int:
        """Which part of the layers."""
        return self.rank // (self.tensor * self.data)

    def rank_at(self, *, stage: int, data_rank: int, tensor_rank: int) -> int:
        """The rank at these coordinates."""
        return (stage * self.data + data_rank) * self.tensor + tensor_rank

    def tensor_groups(self) -> list[list[int]]:
        """Ranks that share matrices."""
        return [
            [self.rank_at(stage=p, data_rank=d, tensor_rank=t) for t in range(self.tensor)]
            for p in range(self.pipeline)
            for d in range(self.data)
        ]

    def data_groups(self) -> list[list[int]]:
        """Ranks that hold the same parameters."""
        return [
            [self.rank_at(stage=p, data_rank=d, tensor_rank=t) for d in range(self.data)]
            for p in range(self.pipeline)
            for t in range(self.tensor)
        ]


class Groups:
    """The process groups of a layout; for DeepSpeed also its `mpu` ("model parallel unit") without pipelines."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.tensor = _group(layout.tensor_groups(), layout.rank) if layout.tensor > 1 else None
        self.data = _group(layout.data_groups(), layout.rank)

    def get_model_parallel_rank(self) -> int:
        return self.layout.tensor_rank

    def get_model_parallel_world_size(self) -> int:
        return self.layout.tensor

    def get_model_parallel_group(self) -> dist.ProcessGroup:
        assert self.tensor is not None
        return self.tensor

    def get_data_parallel_rank(self) -> int:
        return self.layout.data_rank

    def get_data_parallel_world_size(self) -> int:
        return self.layout.data

    def get_data_parallel_group(self) -> dist.ProcessGroup:
        return self.data


def stage_bounds(blocks: int, stages: int) -> list[int]:
    """First block of each stage, and the end: blocks are shared evenly, the last stage (with the head) takes least."""
    share, rest = divmod(blocks, stages)
    bounds = [0]
    for stage in range(stages):
        bounds.append(bounds[-1] + share + (stage < rest))
    return bounds


def _group(partition: list[list[int]], rank: int) -> dist.ProcessGroup:
    """Every rank makes every group, in the same order; the one with `rank` is returned."""
    mine: dist.ProcessGroup | None = None
    for ranks in partition:
        group = dist.new_group(ranks)
        if rank in ranks:
            mine = group
    assert mine is not None
    return mine
