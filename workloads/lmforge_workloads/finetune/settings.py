"""A FineTune's spec in the words of trl's and transformers' own settings. Pure."""

from pathlib import Path
from typing import Any

from lmforge_api import derive_finetune
from lmforge_api.derive import micro_batches
from lmforge_api.run import FineTuneRun
from lmforge_workloads.common.exits import UserError

_OPTIMIZERS = {"adamw-8bit": "adamw_8bit", "paged-adamw-8bit": "paged_adamw_8bit"}
_STAGES = {"zero1": 1, "zero2": 2, "zero3": 3}


def common(run: FineTuneRun, *, rows: int, output: Path, resuming: bool, universal: bool = False) -> dict[str, Any]:
    """Settings of any method's trainer, which learns so many rows and saves its checkpoints below `output`.

    `universal`: it goes on from a universal checkpoint of DeepSpeed's.
    """
    spec = run.spec
    cuda = spec.resources.accelerator is not None
    return {
        "output_dir": str(output),
        "max_steps": derive_finetune.steps(spec, rows=rows),
        **_batch(run),
        **_optimizer(run),
        **_distributed(run, universal=universal),
        "use_cpu": not cuda,
        "bf16": spec.precision == "bf16",
        "fp16": spec.precision == "fp16",
        "activation_checkpointing": spec.gradient_checkpointing,
        "dataloader_pin_memory": cuda,
        "max_length": spec.sequence_length,
        "seed": spec.seed,
        "eval_strategy": "steps",
        "eval_steps": spec.evaluation.every_steps,
        "eval_on_start": not resuming,
        "save_strategy": "steps",
        "save_steps": spec.checkpoint.every_steps,
        "logging_strategy": "steps",
        "logging_steps": 1,  # each step's loss is checked
        "logging_nan_inf_filter": False,
        "include_num_input_tokens_seen": "non_padding",
        "report_to": "none",
        "disable_tqdm": True,
    }


def of_sequences(run: FineTuneRun) -> dict[str, Any]:
    """More for SFTConfig: the rows are tokens already, packed if they have to be."""
    return {
        "packing": run.spec.dataset.packing,
        "eval_packing": False,
        "dataset_kwargs": {"skip_prepare_dataset": True},
    }


def of_pairs(run: FineTuneRun) -> dict[str, Any]:
    """More for DPOConfig."""
    return {"beta": run.spec.dpo.beta} if run.spec.dpo else {}


def warmup_steps(run: FineTuneRun, *, steps: int) -> int:
    """Steps until the peak learning rate."""
    return round(run.spec.schedule.warmup_ratio * steps)


def is_alone(run: FineTuneRun) -> bool:
    """Whether one rank trains all by itself, with nothing to share out."""
    return run.world_size == 1 and run.spec.distributed.strategy == "ddp" and run.spec.resources.count in (None, 1)


def _batch(run: FineTuneRun) -> dict[str, Any]:
    batch = run.spec.batch
    try:
        accumulation = micro_batches(batch, replicas=run.world_size)
    except ValueError as error:
        raise UserError(str(error)) from error
    return {
        "per_device_train_batch_size": batch.micro,
        "per_device_eval_batch_size": batch.micro,
        "gradient_accumulation_steps": accumulation,
    }


def _optimizer(run: FineTuneRun) -> dict[str, Any]:
    optimizer = run.spec.optimizer
    named = {"optim": _OPTIMIZERS[optimizer.kind]} if optimizer.kind in _OPTIMIZERS else {}
    return {
        **named,
        "learning_rate": derive_finetune.learning_rate(run.spec),
        "adam_beta1": optimizer.beta1,
        "adam_beta2": optimizer.beta2,
        "adam_epsilon": optimizer.epsilon,
        "weight_decay": optimizer.weight_decay,
        "max_grad_norm": optimizer.gradient_clipping,
    }


def _distributed(run: FineTuneRun, *, universal: bool) -> dict[str, Any]:
    strategy = run.spec.distributed.strategy
    if strategy == "fsdp2":
        return {"fsdp": True, "fsdp_config": {"version": 2, "auto_wrap_policy": "TRANSFORMER_BASED_WRAP"}}
    if strategy in _STAGES:
        return {"deepspeed": _deepspeed(_STAGES[strategy], universal=universal)}
    if is_alone(run):
        return {}
    backend = "nccl" if run.spec.resources.accelerator is not None else "gloo"
    return {"ddp_backend": backend, "ddp_find_unused_parameters": False}


def _deepspeed(stage: int, *, universal: bool) -> dict[str, Any]:
    """What `auto` stands for comes from the settings above."""
    return {
        "zero_optimization": {
            "stage": stage,
            "overlap_comm": stage == 3,
            "contiguous_gradients": True,
            "stage3_gather_16bit_weights_on_model_save": True,
        },
        "checkpoint": {"load_universal": universal},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": "auto"},
        "gradient_clipping": "auto",
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
    }
