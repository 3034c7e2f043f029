"""Which rank does what, and how parameters are cut."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmforge_workloads.train.layers import Split
from lmforge_workloads.train.layout import Layout, stage_bounds

SIZES = st.integers(1, 4)


@given(SIZES, SIZES, SIZES)
def test_coordinates_and_ranks_are_one_to_one(data: int, tensor: int, pipeline: int) -> None:
    world = data * tensor * pipeline
    for rank in range(world):
        layout = Layout(data, tensor, pipeline, rank)
        at = layout.rank_at(stage=layout.stage, data_rank=layout.data_rank, tensor_rank=layout.tensor_rank)
        assert at == rank
        assert layout.world == world


@given(SIZES, SIZES, SIZES)
def test_groups_divide_the_world(data: int, tensor: int, pipeline: int) -> None:
    layout = Layout(data, tensor, pipeline, rank=0)
    for groups, size in ((layout.tensor_groups(), tensor), (layout.data_groups(), data)):
        assert sorted(rank for group in groups for rank in group) == list(range(layout.world))
        assert {len(group) for group in groups} == {size}


def test_tensor_parallel_ranks_are_neighbours() -> None:
    layout = Layout(data=2, tensor=2, pipeline=2, rank=0)
    assert layout.tensor_groups() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert layout.data_groups() == [[0, 2], [1, 3], [4, 6], [5, 7]]


@pytest.mark.parametrize(
    ("blocks", "stages", "bounds"), [(8, 2, [0, 4, 8]), (7, 3, [0, 3, 5, 7]), (2, 2, [0, 1, 2]), (3, 1, [0, 3])]
)
def test_the_last_stage_has_the_fewest_blocks(blocks: int, stages: int, bounds: list[int]) -> None:
    assert stage_bounds(blocks, stages) == bounds


@given(st.sampled_from([Split(), Split(0), Split(1), Split(0, parts=3)]), st.sampled_from([1, 2, 4]))
def test_parts_make_up_the_whole_again(split: Split, size: int) -> None:
    whole = torch.arange(24.0 * 8).reshape(24, 8)
    parts = [split.cut(whole, rank=rank, size=size) for rank in range(size)]
    assert torch.equal(split.join(parts), whole)
    assert all(part.numel() * (size if split.dim is not None else 1) == whole.numel() for part in parts)


def test_fused_matrices_are_cut_one_by_one() -> None:
    q, k, v = torch.zeros(4), torch.ones(4), torch.full((4,), 2.0)
    part = Split(0, parts=3).cut(torch.cat([q, k, v]), rank=1, size=2)
    assert part.tolist() == [0, 0, 1, 1, 2, 2]
