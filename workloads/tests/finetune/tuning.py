"""Builders for tests of fine-tuning: tiny models with random weights, a tokenizer of bytes, files of rows, runs."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from lmforge_api.finetune import FineTuneSpec
from lmforge_api.run import FineTuneRun, Rendezvous, StorePaths

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>")


def a_tokenizer(*, chat: bool = True, more: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """A token for each byte, and the special ones."""
    tokens = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *more]
    tokenizer = Tokenizer(models.BPE(vocab={token: n for n, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=SPECIAL[0], pad_token=SPECIAL[1],
        additional_special_tokens=list(SPECIAL[2:]),
    )  # fmt: skip
    fast.chat_template = CHATML if chat else None
    return fast


def a_config(**fields: Any) -> LlamaConfig:
    """A Llama of some 60 thousand parameters."""
    sizes: dict[str, Any] = {
        "vocab_size": len(SPECIAL) + 256, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "eos_token_id": 0,
        "pad_token_id": 1, "bos_token_id": None,
    }  # fmt: skip
    return LlamaConfig(**(sizes | fields))


def a_model(config: PreTrainedConfig | None = None, *, seed: int = 0) -> PreTrainedModel:
    """With weights drawn from the seed."""
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config or a_config())


def save_model(
    directory: Path, *, config: PreTrainedConfig | None = None, seed: int = 0, tokenizer: Any = None
) -> Path:
    """A Hugging Face directory of a model and its tokenizer."""
    a_model(config, seed=seed).save_pretrained(directory)
    (tokenizer or a_tokenizer()).save_pretrained(directory)
    return directory


def save_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> Path:
    """A file of JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def questions(count: int = 40) -> list[dict[str, object]]:
    """Conversations with something to learn, of several lengths."""
    return [{"question": f"What is {n} plus one?", "answer": f"It is {n + 1}" + "!" * (n % 5)} for n in range(count)]


def a_run(root: Path, *, model: Path, rows: Path, world: int = 1, attempt: int = 1, **spec: Any) -> FineTuneRun:
    """An attempt of ten steps that writes below `root`; `spec` replaces what is here, as YAML has it."""
    root.mkdir(parents=True, exist_ok=True)
    defaults: dict[str, Any] = {
        "model": {"uri": "pvc://models/tiny"},
        "dataset": {"uri": "pvc://rows/rows.jsonl"},
        "method": "lora",
        "steps": 10,
        "batch": {"global": 4, "micro": 2},
        "optimizer": {"learningRate": 1e-2},
        "precision": "fp32",
        "sequenceLength": 128,
        "evaluation": {"everySteps": 5},
        "checkpoint": {"everySteps": 5},
        "distributed": {"processesPerNode": world},
    }
    return FineTuneRun(
        namespace="default",
        name="tuned",
        attempt=attempt,
        processes_per_node=world,
        rendezvous=Rendezvous(host="localhost"),
        store=StorePaths(root=str(root)),
        model_path=str(model),
        dataset_path=str(rows),
        termination_log=str(root / f"words-{attempt}.json"),
        spec=FineTuneSpec.model_validate(defaults | spec),
    )
