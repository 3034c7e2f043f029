"""What operator and workload derive from a FineTune's spec."""

from typing import Any

import pytest

from lmforge_api import derive_finetune as derive
from lmforge_api.finetune import FineTuneSpec

GPU = {"accelerator": "nvidia.com/gpu", "count": 4}


def spec_of(**fields: Any) -> FineTuneSpec:
    base: dict[str, Any] = {"model": {"uri": "pvc://models/base"}, "dataset": {"uri": "pvc://corpus/chats.csv"}}
    if fields.get("method") == "distill":
        base["distill"] = {"teacher": {"uri": "pvc://models/teacher"}}
    return FineTuneSpec.model_validate(base | fields)


@pytest.mark.parametrize(
    ("fields", "each", "world", "accumulation"),
    [
        ({}, 1, 1, 8),
        ({"distributed": {"nodes": 2, "processesPerNode": 2}}, 2, 4, 2),
        ({"resources": GPU}, 4, 4, 2),
        ({"resources": GPU, "distributed": {"processesPerNode": 2}, "batch": {"micro": 4}}, 2, 2, 1),
    ],
)
def test_all_ranks_are_data_parallel(fields: dict[str, Any], each: int, world: int, accumulation: int) -> None:
    spec = spec_of(**fields)
    assert derive.processes_per_node(spec) == each
    assert derive.world_size(spec) == world
    assert derive.accumulation_steps(spec) == accumulation


def test_a_batch_that_does_not_divide_among_fewer_nodes_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"8 is not a multiple of micro × data = 3"):
        derive.accumulation_steps(spec_of(), nodes=3)


def test_an_elastic_run_takes_the_sizes_that_divide_the_batch() -> None:
    assert derive.sizes_that_fit(spec_of()) == ()
    elastic = {"nodes": 4, "elastic": {"minNodes": 1, "maxNodes": 8}}
    assert derive.sizes_that_fit(spec_of(distributed=elastic)) == (1, 2, 4, 8)
    assert derive.sizes_that_fit(spec_of(distributed=elastic, batch={"micro": 2})) == (1, 2, 4)


@pytest.mark.parametrize(
    ("fields", "rate"),
    [
        ({}, 2e-4),
        ({"method": "qlora"}, 2e-4),
        ({"method": "full"}, 2e-5),
        ({"method": "distill"}, 5e-5),
        ({"method": "dpo"}, 1e-6),
        ({"method": "dpo", "lora": {}}, 5e-6),
        ({"method": "dpo", "optimizer": {"learningRate": 0.5}}, 0.5),
    ],
)
def test_the_learning_rate_is_as_said_or_one_that_suits_the_method(fields: dict[str, Any], rate: float) -> None:
    assert derive.learning_rate(spec_of(**fields)) == rate


@pytest.mark.parametrize(
    ("fields", "adapter", "merges", "bits"),
    [
        ({}, 16, True, None),
        ({"lora": {"rank": 4}, "output": {"merge": False}}, 4, False, None),
        ({"method": "qlora"}, 16, True, 4),
        ({"method": "qlora", "qlora": {"bits": 8}}, 16, True, 8),
        ({"method": "full"}, None, False, None),
        ({"method": "distill"}, None, False, None),
        ({"method": "dpo"}, None, False, None),
        ({"method": "dpo", "lora": {}}, 16, True, None),
    ],
)
def test_the_method_says_whether_an_adapter_is_trained_on_what_and_whether_it_is_merged(
    fields: dict[str, Any], adapter: int | None, merges: bool, bits: int | None
) -> None:
    spec = spec_of(**fields)
    assert (spec.adapter.rank if spec.adapter else None) == adapter
    assert spec.merges == merges
    assert (spec.quantization.bits if spec.quantization else None) == bits


def test_three_epochs_and_a_twentieth_for_evaluation_unless_the_spec_says_otherwise() -> None:
    assert (derive.epochs(spec_of()), derive.evaluation_share(spec_of())) == (3, 0.05)
    assert derive.epochs(spec_of(epochs=0.5)) == 0.5
    assert derive.epochs(spec_of(steps=10)) is None
    rows = {"uri": "pvc://corpus/chats.csv", "split": {"evaluation": 0.2}}
    assert derive.evaluation_share(spec_of(dataset=rows)) == 0.2
    assert derive.evaluation_share(spec_of(evaluation={"dataset": {"uri": "pvc://corpus/test.csv"}})) == 0


@pytest.mark.parametrize(
    ("fields", "rows", "steps"),
    [
        ({"steps": 7}, 100, 7),
        ({}, 8, 3),
        ({}, 9, 4),
        ({"epochs": 0.5}, 1, 1),
        ({"epochs": 2, "batch": {"global": 3}}, 5, 4),
    ],
)
def test_steps_are_enough_to_see_the_rows_so_many_times(fields: dict[str, Any], rows: int, steps: int) -> None:
    assert derive.steps(spec_of(**fields), rows=rows) == steps


def test_status_shows_what_was_derived() -> None:
    assert derive.derived(spec_of(method="qlora", epochs=2)) == {
        "worldSize": "1",
        "processesPerNode": "1",
        "accumulationSteps": "8",
        "learningRate": "0.0002",
        "epochs": "2",
        "loraRank": "16",
        "loraAlpha": "32",
        "baseBits": "4",
    }
