"""A checkpoint gives back exactly what was saved, on the same layout and on others."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from worlds import Case, run_case

from lmforge_workloads.train.checkpoint import whole_weights

pytestmark = pytest.mark.distributed

LAYOUTS = {
    "one process": Case(),
    "ZeRO 2": Case(data=2, zero=2),
    "ZeRO 3": Case(data=2, zero=3),
    "ZeRO 1 in bf16": Case(data=2, zero=1, precision="bf16"),
    "ZeRO 3 in bf16": Case(data=2, zero=3, precision="bf16"),
    "tensor 2 x pipeline 2": Case(tensor=2, pipeline=2),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_resuming_on_the_same_layout_is_bit_for_bit_the_uninterrupted_run(layout: str, tmp_path: Path) -> None:
    whole = replace(LAYOUTS[layout], steps=10, save=tmp_path / "whole")
    half = replace(whole, steps=5, save=tmp_path / "half")
    rest = replace(whole, first=5, steps=5, load=half.saved(), save=tmp_path / "rest")
    uninterrupted, before, after = run_case(whole), run_case(half), run_case(rest)
    assert before.losses + after.losses == uninterrupted.losses
    assert before.norms + after.norms == uninterrupted.norms
    assert_equal_weights(rest.saved(), whole.saved())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Case(data=2, zero=3), Case()),
        (Case(), Case(data=4, zero=1)),
        (Case(data=2, zero=1, tensor=2), Case(pipeline=2)),
        (Case(pipeline=2), Case(data=2, tensor=2, zero=2)),
    ],
    ids=["ZeRO 3 to one process", "one process to data 4", "tensor 2 to pipeline 2", "pipeline 2 to data 2 x tensor 2"],
)
def test_resuming_on_another_layout_goes_on_as_before(before: Case, after: Case, tmp_path: Path) -> None:
    whole = run_case(Case(steps=10))
    half = replace(before, steps=5, save=tmp_path)
    first = run_case(half)
    rest = run_case(replace(after, first=5, steps=5, load=half.saved()))
    assert first.losses + rest.losses == pytest.approx(whole.losses, rel=1e-5)


def test_what_is_loaded_and_saved_again_is_the_same_everywhere(tmp_path: Path) -> None:
    first = Case(steps=2, save=tmp_path / "first")
    moved = Case(data=2, tensor=2, pipeline=2, zero=1, first=2, steps=0, load=first.saved(), save=tmp_path / "moved")
    run_case(first)
    run_case(moved)
    assert_equal_weights(moved.saved(), first.saved())


def test_fp16_skips_a_planted_infinity_and_lowers_its_scale() -> None:
    run = run_case(Case(precision="fp16", zero=1, steps=8, plant_infinity_at=4))
    assert run.skipped == [False] * 4 + [True] + [False] * 3
    assert run.scales[5] == run.scales[4] / 2  # type: ignore[operator]
    assert all(loss < 10 for loss in run.losses)


def test_fp16_in_a_pipeline_follows_fp32() -> None:
    expected = run_case(Case(steps=10))
    run = run_case(Case(pipeline=2, precision="fp16", zero=1, steps=10))
    assert run.norms[0] == pytest.approx(expected.norms[0], rel=1e-2)
    assert run.losses == pytest.approx(expected.losses, rel=2e-2)


def test_fp16_resumes_with_its_loss_scale(tmp_path: Path) -> None:
    whole = Case(precision="fp16", zero=1, steps=8, plant_infinity_at=2)
    half = replace(whole, steps=4, save=tmp_path)
    uninterrupted, before = run_case(whole), run_case(half)
    after = run_case(replace(whole, first=4, steps=4, load=half.saved(), plant_infinity_at=None))
    assert before.losses + after.losses == uninterrupted.losses
    assert before.scales + after.scales == uninterrupted.scales


def assert_equal_weights(directory: Path, expected: Path) -> None:
    weights, others = dict(whole_weights(directory)), dict(whole_weights(expected))
    assert weights.keys() == others.keys()
    for name, weight in weights.items():
        assert torch.equal(weight, others[name]), name
