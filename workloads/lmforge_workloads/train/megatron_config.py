"""A TrainingJob's spec as megatron-core's configurations: keyword arguments, computed without importing it."""

import functools

import torch
import torch.nn.functional as F

from lmforge_api.trainingjob import TrainingJobSpec
from lmforge_workloads.common.exits import UserError
from lmforge_workloads.train.layout import Layout
from lmforge_workloads.train.shape import Shape

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_NO_CLIPPING = 1e9
"""The norm is wanted in any case, and megatron-core computes it only when it clips."""
_LONGEST_BUCKET = 40_000_000
"""Elements; megatron-core's own default (a job's ZeRO bucket size may be smaller, not larger)."""

Arguments = dict[str, object]


def check(spec: TrainingJobSpec, shape: Shape, layout: Layout, *, device: torch.device) -> None:
    """Raise `UserError` for what this engine can't do."""
    if device.type != "cuda":
        raise UserError(
            "engine megatron needs CUDA, and there is none here: ask for GPUs (resources.accelerator: nvidia.com/gpu,"
            " resources.count), or set engine: deepspeed, which trains on CPUs as well"
        )
    if shape.sinusoidal:
        raise UserError(
            "engine megatron has no sinusoidal positions: use positionEncoding: learned, or engine: deepspeed"
        )
    if spec.zero.stage > 1 or "cpu" in (spec.zero.offload.optimizer, spec.zero.offload.parameters):
        raise UserError(
            "engine megatron partitions optimizer states only: set zero.stage: 1 without offload, or engine: deepspeed"
        )
    if shape.layers % layout.pipeline:
        raise UserError(
            f"engine megatron gives every stage as many layers: {shape.layers} layers do not divide into"
            f" {layout.pipeline} stages"
        )


def transformer(spec: TrainingJobSpec, shape: Shape, layout: Layout) -> Arguments:
    """Of `TransformerConfig`."""
    llama = shape.architecture == "llama"
    dtype = DTYPES[spec.precision]
    arguments: Arguments = {
        "num_layers": shape.layers,
        "hidden_size": shape.hidden,
        "ffn_hidden_size": shape.intermediate,
        "num_attention_heads": shape.heads,
        "num_query_groups": shape.kv_heads,
        "kv_channels": shape.head_size,
        "layernorm_epsilon": shape.epsilon,
        "normalization": "RMSNorm" if llama else "LayerNorm",
        "add_bias_linear": not llama,
        "gated_linear_unit": llama,
        "activation_func": F.silu if llama else functools.partial(F.gelu, approximate="tanh"),
        "bias_activation_fusion": llama,  # its fused GELU wants the exact form
        "hidden_dropout": shape.dropout,
        "attention_dropout": shape.dropout,
        "tensor_model_parallel_size": layout.tensor,
        "pipeline_model_parallel_size": layout.pipeline,
        "pipeline_dtype": dtype,
        "params_dtype": dtype,
        "bf16": spec.precision == "bf16",
        "fp16": spec.precision == "fp16",
        "perform_initialization": False,  # weights are set by name afterwards
        # These need Transformer Engine or Apex; attention is PyTorch's own, which is fused on CUDA.
        "apply_rope_fusion": False,
        "masked_softmax_fusion": False,
        "gradient_accumulation_fusion": False,
        "deallocate_pipeline_outputs": True,
    }
    if spec.activation_checkpointing:
        arguments |= {"recompute_granularity": "full", "recompute_method": "uniform", "recompute_num_layers": 1}
    return arguments


def model(shape: Shape, *, sequence_length: int) -> Arguments:
    """Of `GPTModel`."""
    llama = shape.architecture == "llama"
    return {
        "vocab_size": shape.vocabulary,
        "max_sequence_length": sequence_length if llama else shape.positions,
        "share_embeddings_and_output_weights": shape.tied,
        "position_embedding_type": "rope" if llama else "learned_absolute",
        "rotary_base": shape.rope_theta,
    }


def optimizer(spec: TrainingJobSpec) -> Arguments:
    """Of `OptimizerConfig`."""
    settings = spec.optimizer
    return {
        "optimizer": "adam",
        "lr": settings.learning_rate,
        "min_lr": 0.0,
        "weight_decay": settings.weight_decay,
        "adam_beta1": settings.beta1,
        "adam_beta2": settings.beta2,
        "adam_eps": settings.epsilon,
        "clip_grad": settings.gradient_clipping or _NO_CLIPPING,
        "use_distributed_optimizer": True,
        "bf16": spec.precision == "bf16",
        "fp16": spec.precision == "fp16",
        "params_dtype": DTYPES[spec.precision],
        "initial_loss_scale": 2.0**16,
    }


def data_parallel(spec: TrainingJobSpec) -> Arguments:
    """Of `DistributedDataParallelConfig`."""
    return {
        "grad_reduce_in_fp32": True,
        "overlap_grad_reduce": spec.zero.overlap_comm,
        "overlap_param_gather": False,
        "use_distributed_optimizer": True,
        "bucket_size": min(spec.zero.reduce_bucket_size, _LONGEST_BUCKET) if spec.zero.overlap_comm else None,
        "check_for_nan_in_grad": False,  # the loop checks the loss, and fp16 skips such a step
    }
