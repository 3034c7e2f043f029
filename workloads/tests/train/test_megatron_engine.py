from dataclasses import replace
from pathlib import Path

import pytest
import torch
import worlds
from worlds import Case, Run, a_shape, run_case, run_world

from lmforge_api.trainingjob import Optimizer, Zero
from lmforge_workloads.train import checkpoint
from lmforge_workloads.train.engine import Engine
from lmforge_workloads.train.layout import Layout
from lmforge_workloads.train.megatron_names import to_hugging_face

pytestmark = pytest.mark.distributed

LAYOUTS = {
    "llama": [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2), (1, 2, 2), (2, 1, 2)],
    "gpt2": [(1, 1, 1), (1, 2, 2)],
}


def a_megatron_engine(case: Case, layout: Layout) -> Engine:
    import cuda_on_cpu
    from workload_builders import a_spec

    from lmforge_workloads.train.startup import neutral_compile

    with neutral_compile():
        import megatron.core.distributed
        import megatron.core.models.gpt.gpt_layer_specs
        import megatron.core.optimizer
        import megatron.core.pipeline_parallel.schedules  # noqa: F401
    cuda_on_cpu.install()
    from lmforge_workloads.train.megatron_engine import MegatronEngine

    spec = a_spec(
        engine="megatron",
        optimizer=Optimizer(learning_rate=case.learning_rate),
        zero=Zero(reduce_bucket_size=5000),
        precision=case.precision,
        sequence_length=worlds.LENGTH,
        activation_checkpointing=case.recompute,
    )
    return MegatronEngine(case.shape, layout, spec, device=torch.device("cuda"))


def train_with_megatron(rank: int, case: Case) -> Run:
    worlds.an_engine = a_megatron_engine
    return worlds.train_case(rank, case)


def run_megatron(case: Case) -> Run:
    runs = run_world(case.world, train_with_megatron, case)
    assert all(run == runs[0] for run in runs), "ranks disagree"
    return runs[0]


@pytest.fixture(scope="module")
def references() -> dict[str, Run]:
    return {name: run_case(Case(shape=a_shape(name))) for name in ("llama", "gpt2")}


@pytest.mark.parametrize(
    ("architecture", "layout"), [(name, layout) for name, layouts in LAYOUTS.items() for layout in layouts], ids=str
)
def test_every_layout_trains_as_the_other_engine_does(
    architecture: str, layout: tuple[int, int, int], references: dict[str, Run]
) -> None:
    data, tensor, pipeline = layout
    found = run_megatron(Case(data=data, tensor=tensor, pipeline=pipeline, shape=a_shape(architecture)))
    expected = references[architecture]
    assert found.losses == pytest.approx(expected.losses, rel=1e-5)
    assert found.norms == pytest.approx(expected.norms, rel=1e-4)
    assert found.evaluation == pytest.approx(expected.evaluation, rel=1e-5)
    assert found.losses[-1] < found.losses[0] - 0.2


def test_an_untied_output_layer_and_recomputed_activations_train_the_same() -> None:
    shape = a_shape(tied=False)
    expected = run_case(Case(shape=shape))
    found = run_megatron(Case(shape=shape, pipeline=2, recompute=True))
    assert found.losses == pytest.approx(expected.losses, rel=1e-5)


def test_a_checkpoint_goes_on_in_another_layout_and_exports_the_same_weights(tmp_path: Path) -> None:
    whole = Case(tensor=2, pipeline=2, save=tmp_path / "whole")
    expected = run_megatron(whole)
    half = replace(whole, steps=10, save=tmp_path / "half")
    run_megatron(half)
    rest = Case(data=2, first=10, steps=10, load=half.saved(), save=tmp_path / "rest")
    found = run_megatron(rest)
    assert found.losses == pytest.approx(expected.losses[10:], rel=1e-5)

    plain = Case(save=tmp_path / "plain")
    run_case(plain)
    theirs = dict(checkpoint.whole_weights(plain.saved()))
    ours = dict(to_hugging_face(checkpoint.whole_weights(rest.saved()), a_shape()))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=1e-4)


def test_dynamic_loss_scaling_begins_and_is_kept(tmp_path: Path) -> None:
    half = Case(precision="fp16", steps=3, save=tmp_path)
    assert run_megatron(half).scales == [2.0**16] * 3
    rest = Case(precision="fp16", first=3, steps=2, load=half.saved())
    assert all(scale is not None and scale >= 2.0**15 for scale in run_megatron(rest).scales)
