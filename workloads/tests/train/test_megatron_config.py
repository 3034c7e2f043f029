from typing import Any

import pytest
import torch
from workload_builders import a_spec

from lmforge_api.trainingjob import Optimizer, TrainingJobSpec, Zero, ZeroOffload
from lmforge_workloads.common.exits import UserError
from lmforge_workloads.train import megatron_config
from lmforge_workloads.train.layout import Layout
from lmforge_workloads.train.shape import Shape
from lmforge_workloads.train.startup import neutral_compile

LLAMA = Shape("llama", layers=4, hidden=64, intermediate=192, heads=8, kv_heads=4, vocabulary=512, positions=32)
GPT2 = Shape("gpt2", 4, 64, 256, 8, 8, 512, 32, dropout=0.1)
LAYOUT = Layout(data=2, tensor=2, pipeline=2, rank=5)
CUDA = torch.device("cuda")


@pytest.fixture(scope="module")
def core() -> Any:
    with neutral_compile():
        import megatron.core.distributed
        import megatron.core.models.gpt
        import megatron.core.optimizer
    return megatron.core


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("shape", [LLAMA, GPT2], ids=["llama", "gpt2"])
def test_megatron_core_takes_every_argument_and_agrees(core: Any, shape: Shape, precision: str) -> None:
    spec = a_spec(engine="megatron", precision=precision, activation_checkpointing=True)
    arguments = megatron_config.transformer(spec, shape, LAYOUT)
    config = core.transformer.transformer_config.TransformerConfig(**arguments)
    assert {name: getattr(config, name) for name in arguments} == arguments
    assert config.params_dtype == {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert config.sequence_parallel is False

    arguments = megatron_config.optimizer(spec)
    optimizer = core.optimizer.OptimizerConfig(**arguments)
    assert {name: getattr(optimizer, name) for name in arguments} == arguments

    arguments = megatron_config.data_parallel(spec)
    replicas = core.distributed.DistributedDataParallelConfig(**arguments)
    assert {name: getattr(replicas, name) for name in arguments} == arguments


def test_sizes_and_kinds_of_the_model_are_those_of_the_shape() -> None:
    llama, gpt2 = (megatron_config.transformer(a_spec(), shape, LAYOUT) for shape in (LLAMA, GPT2))
    assert llama["normalization"] == "RMSNorm"
    assert llama["num_query_groups"] == 4
    assert llama["gated_linear_unit"] is True
    assert gpt2["normalization"] == "LayerNorm"
    assert gpt2["add_bias_linear"] is True
    assert gpt2["hidden_dropout"] == gpt2["attention_dropout"] == 0.1
    assert megatron_config.model(LLAMA, sequence_length=16)["position_embedding_type"] == "rope"
    assert megatron_config.model(GPT2, sequence_length=16)["max_sequence_length"] == 32


def test_the_optimizer_is_the_specs() -> None:
    spec = a_spec(optimizer=Optimizer(beta2=0.99, weight_decay=0.2, gradient_clipping=0))
    arguments = megatron_config.optimizer(spec)
    assert (arguments["adam_beta2"], arguments["weight_decay"]) == (0.99, 0.2)
    assert arguments["clip_grad"] == 1e9  # the norm is still measured
    assert arguments["use_distributed_optimizer"] is True


def test_buckets_follow_the_spec_only_when_communication_overlaps() -> None:
    overlapping = a_spec(zero=Zero(overlap_comm=True, reduce_bucket_size=5000))
    assert megatron_config.data_parallel(overlapping)["bucket_size"] == 5000
    assert megatron_config.data_parallel(a_spec(zero=Zero(overlap_comm=False)))["bucket_size"] is None


@pytest.mark.parametrize(
    ("spec", "shape", "layout", "device", "says"),
    [
        (a_spec(), LLAMA, LAYOUT, "cpu", "needs CUDA.*engine: deepspeed"),
        (a_spec(), Shape("gpt2", 4, 64, 256, 8, 8, 512, 32, sinusoidal=True), LAYOUT, "cuda", "sinusoidal"),
        (a_spec(zero=Zero(stage=3)), LLAMA, LAYOUT, "cuda", "zero.stage: 1"),
        (a_spec(zero=Zero(offload=ZeroOffload(optimizer="cpu"))), LLAMA, LAYOUT, "cuda", "without offload"),
        (a_spec(), LLAMA, Layout(1, 1, 3, 0), "cuda", "4 layers do not divide into 3 stages"),
    ],
)
def test_what_it_can_not_do_is_refused_with_what_to_do(
    spec: TrainingJobSpec, shape: Shape, layout: Layout, device: str, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        megatron_config.check(spec, shape, layout, device=torch.device(device))
    megatron_config.check(a_spec(), LLAMA, LAYOUT, device=CUDA)
