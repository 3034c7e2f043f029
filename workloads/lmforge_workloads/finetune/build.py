"""The trainer of a run, by its method."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import DPOConfig, SFTConfig

from lmforge_api.run import FineTuneRun
from lmforge_workloads.finetune import settings
from lmforge_workloads.finetune.data import Data
from lmforge_workloads.finetune.models import adapter_config, check_tokenizer, load_base, load_teacher
from lmforge_workloads.finetune.student import make_student
from lmforge_workloads.finetune.trainers import Distilling, Preferring, Supervised

Trainer = Supervised | Preferring | Distilling


def build(
    run: FineTuneRun,
    *,
    directory: Path,
    tokenizer: PreTrainedTokenizerBase,
    data: Data,
    output: Path,
    resuming: bool,
    universal: bool,
    device: torch.device,
) -> Trainer:
    """Load the models and give them to trl. Checkpoints are saved below `output`; see `settings.common`."""
    spec = run.spec
    if settings.is_alone(run):
        # accelerate would take it for one of many, and wrap the model for them: copies of weights and gradients.
        os.environ.pop("LOCAL_RANK", None)
    train = data.train
    values = settings.common(run, rows=len(train), output=output, resuming=resuming, universal=universal)
    # Made before the model: with ZeRO 3, transformers loads weights in parts from then on.
    arguments = (
        DPOConfig(**values, **settings.of_pairs(run))
        if spec.method == "dpo"
        else SFTConfig(**values, **settings.of_sequences(run))
    )
    model = taught(run, directory, device=device)
    check_tokenizer(tokenizer, model)
    given: Mapping[str, Any] = {
        "model": model,
        "args": arguments,
        "train_dataset": train,
        "eval_dataset": data.evaluation,
        "processing_class": tokenizer,
        "peft_config": adapter_config(spec.adapter, model) if spec.adapter else None,
    }
    if spec.method == "dpo":
        return Preferring(**given)
    if spec.distill is None:
        return Supervised(**given)
    teacher = load_teacher(run, student=model, tokenizer=tokenizer)
    trainer = Distilling(**given)
    trainer.learn_from(teacher, spec.distill)
    return trainer


def taught(run: FineTuneRun, directory: Path, *, device: torch.device) -> PreTrainedModel:
    """The model that is taught, as it is before the first step."""
    model = load_base(run, directory, device=device)
    if run.spec.distill is not None and run.spec.distill.init is not None:
        return make_student(model, run.spec.distill.init, seed=run.spec.seed)
    return model
