"""What operator and trainer derive from a spec."""

from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmforge_api import derive
from lmforge_api.trainingjob import ModelInit, TrainingJobSpec


def spec_of(**fields: Any) -> TrainingJobSpec:
    base: dict[str, Any] = {"model": {"init": {}}, "dataset": {"uri": "pvc://corpus/text"}}
    return TrainingJobSpec.model_validate(base | fields)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 1),
        ({"parallelism": {"data": 2, "tensor": 2, "pipeline": 2}, "nodes": 2}, 4),
        ({"nodes": 2, "processesPerNode": 3}, 3),
        ({"resources": {"accelerator": "nvidia.com/gpu", "count": 8}}, 8),
        ({"resources": {"accelerator": "nvidia.com/gpu", "count": 8}, "processesPerNode": 4}, 4),
    ],
)
def test_processes_per_node_are_as_said_or_one_an_accelerator_or_a_share_of_the_world(
    fields: dict[str, Any], expected: int
) -> None:
    assert derive.processes_per_node(spec_of(**fields)) == expected


def test_a_world_that_does_not_divide_into_nodes_is_an_error() -> None:
    with pytest.raises(ValueError, match="3 ranks does not divide into 2 nodes"):
        derive.processes_per_node(spec_of(parallelism={"data": 3}, nodes=2))


def test_accumulation_steps_are_global_over_micro_times_data() -> None:
    spec = spec_of(batch={"global": 24, "micro": 3}, parallelism={"data": 2})
    assert derive.accumulation_steps(spec) == 4
    assert derive.accumulation_steps(spec, data_parallel=8) == 1
    with pytest.raises(ValueError, match=r"24 is not a multiple of micro × data = 15"):
        derive.accumulation_steps(spec, data_parallel=5)
    with pytest.raises(ValueError, match=r"24 is not a multiple of micro × data = 48"):
        derive.accumulation_steps(spec, data_parallel=16)


def test_an_elastic_run_may_have_the_nodes_that_make_whole_replicas_and_divide_the_batch() -> None:
    spec = spec_of(
        nodes=4,
        parallelism={"data": 4, "tensor": 2},
        batch={"global": 8},
        elastic={"minNodes": 2, "maxNodes": 8},
    )
    assert derive.sizes_that_fit(spec) == (2, 4, 8)


def test_a_run_that_is_not_elastic_has_no_other_sizes() -> None:
    assert derive.sizes_that_fit(spec_of(nodes=2, parallelism={"data": 2})) == ()


@given(st.integers(8, 65536))
def test_a_llama_feed_forward_is_eight_thirds_rounded_up_to_a_multiple_of_32(hidden: int) -> None:
    assert derive.intermediate_size(ModelInit(hidden_size=hidden)) == ceil(8 * hidden / 3 / 32) * 32


@pytest.mark.parametrize(
    ("init", "position", "width"),
    [
        ({"architecture": "llama", "hiddenSize": 256}, "rotary", 704),
        ({"architecture": "gpt2", "hiddenSize": 256}, "learned", 1024),
        ({"architecture": "gpt2", "positionEncoding": "sinusoidal", "intermediateSize": 96}, "sinusoidal", 96),
        ({"architecture": "lstm"}, "none", 1024),
    ],
)
def test_the_shape_follows_from_the_architecture(init: dict[str, Any], position: str, width: int) -> None:
    model = ModelInit.model_validate(init)
    assert derive.position_encoding(model) == position
    assert derive.intermediate_size(model) == width


def test_status_shows_what_was_derived_as_strings() -> None:
    spec = spec_of(nodes=2, parallelism={"data": 2, "tensor": 2, "pipeline": 2}, batch={"global": 16})
    assert derive.derived(spec) == {
        "worldSize": "8",
        "processesPerNode": "4",
        "dataParallel": "2",
        "accumulationSteps": "8",
        "tokensPerStep": "8192",
        "intermediateSize": "704",
        "kvHeads": "4",
        "headSize": "64",
        "positionEncoding": "rotary",
    }
    assert derive.derived(spec, nodes=4)["dataParallel"] == "4"
    assert derive.derived(spec_of(model={"init": {"architecture": "ngram"}}))["order"] == "3"
    assert "headSize" not in derive.derived(spec_of(model={"uri": "pvc://models/tiny"}))


@given(
    data=st.integers(1, 8), tensor=st.integers(1, 4), pipeline=st.integers(1, 4), micro=st.integers(1, 4),
    accumulation=st.integers(1, 5),
)  # fmt: skip
def test_derived_values_agree_with_each_other(
    data: int, tensor: int, pipeline: int, micro: int, accumulation: int
) -> None:
    spec = spec_of(
        parallelism={"data": data, "tensor": tensor, "pipeline": pipeline},
        batch={"global": micro * data * accumulation, "micro": micro},
        nodes=data,
    )
    assert derive.world_size(spec) == spec.nodes * derive.processes_per_node(spec)
    assert derive.data_parallel_size(spec, nodes=spec.nodes) == data
    assert derive.accumulation_steps(spec) == accumulation
    assert derive.is_feasible(spec, nodes=spec.nodes)
