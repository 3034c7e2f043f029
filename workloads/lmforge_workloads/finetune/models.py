"""The models of a run: the one that is taught, its tokenizer, its adapter, its teacher."""

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, TaskType
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import is_flash_attn_2_available

from lmforge_api.finetune_parts import Lora, Qlora
from lmforge_api.run import FineTuneRun
from lmforge_workloads.common import store
from lmforge_workloads.common.exits import UserError
from lmforge_workloads.finetune.targets import target_modules

log = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def directory_of(uri: str) -> Path:
    """A local directory with the model's files."""
    directory = store.local_directory(uri, scratch=Path(tempfile.gettempdir()) / f"model-{os.getpid()}")
    if (directory / "adapter_config.json").exists():
        raise UserError(
            f"{uri} is an adapter, not a model: name the model that it belongs to, or merge it by output.merge: true"
        )
    if not (directory / "config.json").exists():
        raise UserError(f"{uri} has no config.json: name a Hugging Face directory with config.json and safetensors")
    return directory


def load_tokenizer(run: FineTuneRun, directory: Path) -> PreTrainedTokenizerBase:
    """The model's tokenizer, with the spec's chat template if there is one, and with something to pad with."""
    with _plainly(run.model_path):
        tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=run.spec.model.trust_remote_code)
    if run.spec.dataset.template.chat is not None:
        tokenizer.chat_template = run.spec.dataset.template.chat
    if tokenizer.eos_token is None:
        raise UserError(f"the tokenizer of {run.model_path} has no end-of-text token (eos_token): add it to its files")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_config(run: FineTuneRun, directory: Path) -> PreTrainedConfig:
    """The model's sizes."""
    with _plainly(run.model_path):
        return AutoConfig.from_pretrained(directory, trust_remote_code=run.spec.model.trust_remote_code)


def load_model(
    uri: str, directory: Path, *, dtype: torch.dtype | str, trust_remote_code: bool = False, **options: Any
) -> PreTrainedModel:
    """A causal language model from safetensors. Nothing is unpickled."""
    with _plainly(uri):
        return AutoModelForCausalLM.from_pretrained(
            directory,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            attn_implementation=attention(),
            **options,
        )


def load_base(run: FineTuneRun, directory: Path, *, device: torch.device) -> PreTrainedModel:
    """The model that is taught, as its method needs it.

    Weights that are trained are kept in fp32, and computed with in the run's precision; frozen ones are kept in it.
    """
    spec = run.spec
    options: dict[str, Any] = {"trust_remote_code": spec.model.trust_remote_code}
    if spec.quantization is not None:
        options["quantization_config"] = quantization(spec.quantization, compute=DTYPES[spec.precision])
        options["device_map"] = {"": device}
    dtype = torch.float32 if spec.adapter is None else DTYPES[spec.precision]
    model = load_model(run.model_path, directory, dtype=dtype, **options)
    _keep_differentiable(model)
    return model


def _keep_differentiable(model: PreTrainedModel) -> None:
    """Keep bitsandbytes from packing weights for inference when they are evaluated.

    It does so on CPUs with AVX512-BF16, and the kernel for packed weights has no gradient: no layer would learn through
    those above it, without an error.
    """
    for part in model.modules():
        if isinstance(part, Linear4bit):
            part.support_avx512bf16_for_cpu = False


def load_teacher(run: FineTuneRun, *, student: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The teacher, frozen. Raises `UserError` where its tokens aren't the student's."""
    assert run.spec.distill is not None
    assert run.teacher_path is not None
    reference = run.spec.distill.teacher
    directory = directory_of(run.teacher_path)
    with _plainly(run.teacher_path):
        other = AutoTokenizer.from_pretrained(directory, trust_remote_code=reference.trust_remote_code)
    check_vocabulary(tokenizer, other)
    teacher = load_model(run.teacher_path, directory, dtype=DTYPES[run.spec.precision],
                         trust_remote_code=reference.trust_remote_code)  # fmt: skip
    mine, its = student.config.get_text_config().vocab_size, teacher.config.get_text_config().vocab_size
    if min(mine, its) < len(tokenizer):
        raise UserError(f"the tokenizer has {len(tokenizer)} tokens, the student {mine} outputs, and the teacher {its}")
    return teacher.eval().requires_grad_(False)


def check_vocabulary(student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase) -> None:
    """Raise `UserError` where the same number means something else to both."""
    mine, its = student.get_vocab(), teacher.get_vocab()
    if mine == its:
        return
    differing = sorted(token for token in mine.keys() | its.keys() if mine.get(token) != its.get(token))
    shown = ", ".join(repr(token) for token in differing[:3])
    raise UserError(
        f"the teacher has another vocabulary: {len(differing)} tokens differ ({shown}), of {len(mine)} here and"
        f" {len(its)} there. Logits can be compared only token by token: name a teacher of the student's family"
    )


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    """Raise `UserError` where the tokenizer has more tokens than the model."""
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows > 0:
        raise UserError(f"the tokenizer has {len(tokenizer)} tokens, the model only {rows}: they don't belong together")


def quantization(settings: Qlora, *, compute: torch.dtype) -> BitsAndBytesConfig:
    """How bitsandbytes stores the frozen weights."""
    if settings.bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=settings.type or "nf4",
        bnb_4bit_use_double_quant=settings.double_quant is not False,
        bnb_4bit_compute_dtype=compute,
    )


def adapter_config(settings: Lora, model: PreTrainedModel) -> LoraConfig:
    """The adapter, as peft has it."""
    return LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=target_modules(model, settings.target_modules),
        use_rslora=settings.rslora,
        use_dora=settings.dora,
    )


def attention() -> str:
    """Flash attention where it is installed, else torch's own."""
    return "flash_attention_2" if torch.cuda.is_available() and is_flash_attn_2_available() else "sdpa"


@contextmanager
def _plainly(uri: str) -> Iterator[None]:
    """What transformers can't load is the user's to know, in one sentence."""
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        hint = ""
        if "trust_remote_code" in str(error):
            hint = ": its code isn't part of transformers; write trustRemoteCode: true beside its uri to run it"
        raise UserError(f"{uri} can't be loaded: {first}{hint}") from error
