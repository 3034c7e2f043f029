"""Every parallel layout against one process, and one process against plain PyTorch: same seed, same losses."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from worlds import Case, Run, a_shape, plain_training, run_case, run_world

from lmforge_workloads.train.checkpoint import whole_weights

pytestmark = pytest.mark.distributed

LAYOUTS = {
    "data 2": Case(data=2),
    "ZeRO 1": Case(data=2, zero=1),
    "ZeRO 2": Case(data=2, zero=2),
    "ZeRO 3": Case(data=2, zero=3),
    "ZeRO 2, offloaded": Case(data=2, zero=2, offload=True),
    "ZeRO 3, offloaded": Case(data=2, zero=3, offload=True),
    "tensor 2": Case(tensor=2),
    "pipeline 2": Case(pipeline=2),
    "tensor 2 x pipeline 2": Case(tensor=2, pipeline=2),
    "data 2 x tensor 2 x pipeline 2": Case(data=2, tensor=2, pipeline=2),
    "data 2 x tensor 2 x pipeline 2, ZeRO 1": Case(data=2, tensor=2, pipeline=2, zero=1),
    "data 2 x tensor 2, ZeRO 3": Case(data=2, tensor=2, zero=3),
    "pipeline 2, recomputed": Case(pipeline=2, recompute=True),
    "ZeRO 3, recomputed": Case(data=2, zero=3, recompute=True),
}
SHAPES = {
    "llama": a_shape("llama"),
    "llama, untied": a_shape("llama", tied=False),
    "gpt2": a_shape("gpt2"),
    "gpt2, sinusoidal": a_shape("gpt2", sinusoidal=True),
}


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Case, Run]]:
    """Each model on one process."""
    cases = {name: Case(shape=shape, save=tmp_path_factory.mktemp("single")) for name, shape in SHAPES.items()}
    return {name: (case, run_case(case)) for name, case in cases.items()}


def assert_same(run: Run, expected: Run) -> None:
    for step, (loss, other) in enumerate(zip(run.losses, expected.losses, strict=True)):
        assert math.isclose(loss, other, rel_tol=1e-5), f"step {step}: {loss} is not {other}"
    assert run.evaluation == pytest.approx(expected.evaluation, rel=1e-5)
    assert run.norms == pytest.approx(expected.norms, rel=1e-3)


def assert_same_weights(directory: Path, expected: Path) -> None:
    weights, others = dict(whole_weights(directory)), dict(whole_weights(expected))
    assert weights.keys() == others.keys()
    for name, weight in weights.items():
        if name.endswith(
            "c_attn.bias"
        ):  # the keys' bias has no gradient but rounding, which Adam makes as large as any
            weight, others[name] = (w.clone().view(3, -1)[[0, 2]] for w in (weight, others[name]))
        torch.testing.assert_close(
            weight, others[name], rtol=0, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_llama_has_the_losses_and_weights_of_one_process(
    layout: str, single: dict[str, tuple[Case, Run]], tmp_path: Path
) -> None:
    case = replace(LAYOUTS[layout], save=tmp_path)
    reference, expected = single["llama"]
    assert_same(run_case(case), expected)
    assert_same_weights(case.saved(), reference.saved())


@pytest.mark.parametrize("layout", ["data 2 x tensor 2 x pipeline 2, ZeRO 1", "ZeRO 3"])
@pytest.mark.parametrize("shape", ["gpt2", "gpt2, sinusoidal", "llama, untied"])
def test_other_models_have_them_too(
    shape: str, layout: str, single: dict[str, tuple[Case, Run]], tmp_path: Path
) -> None:
    case = replace(LAYOUTS[layout], shape=SHAPES[shape], save=tmp_path)
    reference, expected = single[shape]
    assert_same(run_case(case), expected)
    assert_same_weights(case.saved(), reference.saved())


@pytest.mark.parametrize("shape", SHAPES)
def test_one_process_has_the_losses_of_plain_pytorch(shape: str, single: dict[str, tuple[Case, Run]]) -> None:
    _, run = single[shape]
    assert run.losses == pytest.approx(run_world(1, plain_training, SHAPES[shape])[0], rel=1e-5)


def test_the_model_learns(single: dict[str, tuple[Case, Run]]) -> None:
    losses = single["llama"][1].losses
    assert losses[-1] < losses[0] - 0.5


def test_accumulating_two_micro_batches_is_one_of_twice_the_size() -> None:
    expected = run_case(Case(micro=2))
    assert_same(run_case(Case(micro=1)), expected)
    assert_same(run_case(Case(micro=4)), expected)


@pytest.mark.parametrize("layout", [Case(), Case(data=2, zero=2), Case(data=2, zero=3), Case(tensor=2, pipeline=2)])
def test_bf16_follows_fp32_at_its_own_precision(layout: Case, single: dict[str, tuple[Case, Run]]) -> None:
    run = run_case(replace(layout, precision="bf16"))
    assert run.losses == pytest.approx(single["llama"][1].losses, rel=3e-2)
    assert run.norms[0] == pytest.approx(single["llama"][1].norms[0], rel=1e-2)
