"""What a run leaves: a Hugging Face directory with the weights, the tokenizer, and how they came about.

    config.json generation_config.json model.safetensors tokenizer*.json     what transformers and vLLM load
    training.json metrics.jsonl tensorboard/ report.html                     how it was trained
    manifest.json                                                            sizes and SHA-256 of all of it

It appears as a whole or not at all. Nothing is pickled.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from lmforge_api.common import ArtifactStatus, ModelShape
from lmforge_api.run import EvaluationResult, TrainingRun
from lmforge_workloads.common import artifact
from lmforge_workloads.common.exported import SHAPE, directory_of, status_of, write_json, write_story
from lmforge_workloads.train.data import Data
from lmforge_workloads.train.shape import Shape, to_config

SHARD_BYTES = 5_000_000_000
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Outcome:
    """What training has come to."""

    steps: int
    tokens: int
    parameters: int
    loss: float | None
    evaluation: EvaluationResult | None


def export_transformer(
    run: TrainingRun, *, shape: Shape, state: Iterable[tuple[str, Tensor]], data: Data, outcome: Outcome
) -> ArtifactStatus:
    """Write a model that `AutoModelForCausalLM.from_pretrained` loads.

    `state` gives whole parameters as Hugging Face has them, and may be lazy: at most one shard is held in memory.
    """
    config = {**to_config(shape), **_token_ids(data), "dtype": str(DTYPES[run.spec.precision]).removeprefix("torch.")}

    def write(directory: Path) -> None:
        write_json(directory / "config.json", config)
        write_json(directory / "generation_config.json", _token_ids(data))
        save_weights(directory, state, dtype=DTYPES[run.spec.precision])

    return export(
        run,
        architecture=shape.architecture,
        write=write,
        data=data,
        outcome=outcome,
        format="HuggingFace",
        sizes=ModelShape(
            layers=shape.layers,
            heads=shape.heads,
            kv_heads=shape.kv_heads,
            head_size=shape.head_size,
            context_length=shape.positions,
        ),
    )


def export(
    run: TrainingRun,
    *,
    architecture: str,
    write: Callable[[Path], None],
    data: Data,
    outcome: Outcome,
    format: str,
    sizes: ModelShape | None = None,
) -> ArtifactStatus:
    """Write an artifact: `write` adds the model itself to a directory that has everything else."""
    destination = directory_of(run)
    artifact.sweep(destination.parent)
    facts = _facts(run, architecture=architecture, data=data, outcome=outcome)
    metadata = {"architecture": architecture, "format": format, "steps": str(outcome.steps)}
    if sizes is not None:
        metadata[SHAPE] = sizes.model_dump_json(by_alias=True)
    with artifact.writing(destination, kind="model", created_by=run.creator, metadata=metadata) as staged:
        write(staged)
        data.tokenizer.save(staged)
        write_story(run, staged, facts=facts, inputs=_inputs(data))
    manifest = artifact.read_manifest(destination)
    assert manifest is not None
    return status_of(run, manifest)


def save_weights(
    directory: Path, state: Iterable[tuple[str, Tensor]], *, dtype: torch.dtype, shard_bytes: int = SHARD_BYTES
) -> None:
    """model.safetensors, or numbered shards with their index, as `save_pretrained` names them."""
    shards: list[list[str]] = []
    batch: dict[str, Tensor] = {}
    size = total = 0

    def flush() -> None:
        save_file(batch, directory / f"shard-{len(shards)}.safetensors", metadata={"format": "pt"})
        shards.append(list(batch))
        batch.clear()

    for name, value in state:
        converted = value.detach().to(device="cpu", dtype=dtype).contiguous()
        if batch and size + converted.nbytes > shard_bytes:
            flush()
            size = 0
        batch[name] = converted
        size += converted.nbytes
        total += converted.nbytes
    flush()
    _name_shards(directory, shards, total)


def _name_shards(directory: Path, shards: list[list[str]], total: int) -> None:
    """Final names need the number of shards, which is known only at the end."""
    names = [f"model-{n:05}-of-{len(shards):05}.safetensors" for n in range(1, len(shards) + 1)]
    names = ["model.safetensors"] if len(shards) == 1 else names
    for number, name in enumerate(names):
        (directory / f"shard-{number}.safetensors").rename(directory / name)
    if len(shards) > 1:
        places = {key: name for keys, name in zip(shards, names, strict=True) for key in keys}
        write_json(
            directory / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": places}
        )


def _token_ids(data: Data) -> dict[str, object]:
    end = data.tokenizer.end_of_text
    padding = data.tokenizer.padding
    return {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end if padding is None else padding}


def _facts(run: TrainingRun, *, architecture: str, data: Data, outcome: Outcome) -> dict[str, str]:
    facts = {
        "architecture": architecture,
        "parameters": f"{outcome.parameters:,}",
        "vocabulary": f"{data.vocabulary:,}",
        "training text": f"{int(data.metadata['train.tokens']):,} tokens",
        "steps": f"{outcome.steps:,}",
        "tokens trained on": f"{outcome.tokens:,}",
        "last training loss": _number(outcome.loss),
        "evaluation loss": _number(outcome.evaluation.loss if outcome.evaluation else None),
        "perplexity": _number(outcome.evaluation.perplexity if outcome.evaluation else None),
        "attempts": str(run.attempt),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return {name: value for name, value in facts.items() if value}


def _number(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.4f}"


def _inputs(data: Data) -> list[dict[str, object]]:
    return [status.model_dump(by_alias=True) for status in data.inputs()]
