"""What a FineTune leaves, made from its last (or best) checkpoint.

    adapter/     adapter_model.safetensors adapter_config.json tokenizer*.json README.md manifest.json
    artifact/    config.json model.safetensors tokenizer*.json README.md …         the model, an adapter merged into it;
                 or, where the spec says not to merge, the adapter itself

Each appears as a whole or not at all, the artifact last. Nothing is pickled.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from lmforge_api.common import ArtifactStatus, InputStatus, ModelShape
from lmforge_api.finetune_results import TrainedAdapter
from lmforge_api.run import FineTuneFigures, FineTuneRun
from lmforge_workloads.common import artifact
from lmforge_workloads.common.exported import SHAPE, directory_of, exported, status_of, write_json, write_story
from lmforge_workloads.finetune.card import known_as, model_card
from lmforge_workloads.finetune.models import DTYPES, load_model

log = logging.getLogger(__name__)

ADAPTER = "adapter"
_OF_ADAPTER = ("adapter_model.safetensors", "adapter_config.json")
_HEADLINES = {
    "full": "training all of its weights",
    "lora": "LoRA",
    "qlora": "QLoRA",
    "distill": "distillation",
    "dpo": "direct preference optimisation",
}


@dataclass(frozen=True)
class Source:
    """What an artifact is made of."""

    checkpoint: Path
    model: Path
    """Directory of the model that was taught."""
    tokenizer: PreTrainedTokenizerBase
    inputs: list[InputStatus]
    facts: Mapping[str, str]


def left(run: FineTuneRun) -> tuple[ArtifactStatus, FineTuneFigures] | None:
    """What an earlier attempt has already written."""
    status = exported(run)
    if status is None:
        return None
    return status, FineTuneFigures(adapter=_trained(run, ADAPTER if run.spec.merges else "artifact"))


def export(run: FineTuneRun, source: Source) -> tuple[ArtifactStatus, TrainedAdapter | None]:
    """Write adapter and artifact."""
    artifact.sweep(Path(run.store.root))
    if run.spec.adapter is None:
        return _model(run, source), None
    if not run.spec.merges:
        _adapter(run, source, "artifact")
        status = exported(run)
        assert status is not None
        return status, _trained(run, "artifact")
    _adapter(run, source, ADAPTER)
    return _model(run, source), _trained(run, ADAPTER)


def _model(run: FineTuneRun, source: Source) -> ArtifactStatus:
    model = final_model(run, source)
    config = model.config.get_text_config()
    metadata = {"architecture": config.model_type, "format": "HuggingFace", SHAPE: _shape(config)}
    destination = directory_of(run)
    with artifact.writing(destination, kind="model", created_by=run.creator, metadata=metadata) as staged:
        model.save_pretrained(staged)
        _accompany(run, source, staged, adapter=False)
    manifest = artifact.read_manifest(destination)
    assert manifest is not None
    return status_of(run, manifest)


def final_model(run: FineTuneRun, source: Source) -> PreTrainedModel:
    """The taught model in the type of the weights that it was made from."""
    remote = run.spec.model.trust_remote_code
    if run.spec.adapter is None:
        dtype = _stored_dtype(run, source.model)
        return load_model(str(source.checkpoint), source.checkpoint, dtype=dtype, trust_remote_code=remote)
    # Not into quantised weights: what is left is as exact as the base that it came from.
    base = load_model(run.model_path, source.model, dtype="auto", trust_remote_code=remote)
    return PeftModel.from_pretrained(base, source.checkpoint).merge_and_unload()


def _adapter(run: FineTuneRun, source: Source, name: str) -> None:
    config = json.loads((source.checkpoint / "adapter_config.json").read_bytes())
    config["base_model_name_or_path"] = next(
        (known_as(each) for each in source.inputs if each.name == "model"), run.model_path
    )
    metadata = {
        "format": "PEFT",
        "rank": str(config["r"]),
        "targetModules": json.dumps(sorted(config["target_modules"])),
    }
    destination = directory_of(run, name=name)
    with artifact.writing(destination, kind="adapter", created_by=run.creator, metadata=metadata) as staged:
        for file in _OF_ADAPTER:
            shutil.copyfile(source.checkpoint / file, staged / file)
        write_json(staged / "adapter_config.json", config)
        _accompany(run, source, staged, adapter=True)


def _accompany(run: FineTuneRun, source: Source, staged: Path, *, adapter: bool) -> None:
    source.tokenizer.save_pretrained(staged)
    write_story(run, staged, facts=source.facts, inputs=[each.wire() for each in source.inputs])
    method = _HEADLINES[run.spec.method]
    card = model_card(run, adapter=adapter, facts=source.facts, inputs=source.inputs, method=method)
    (staged / "README.md").write_text(card)


def _trained(run: FineTuneRun, name: str) -> TrainedAdapter | None:
    manifest = artifact.read_manifest(directory_of(run, name=name))
    if manifest is None or run.spec.adapter is None:
        return None
    return TrainedAdapter(
        **dict(status_of(run, manifest, name=name)),
        rank=int(manifest.metadata["rank"]),
        target_modules=json.loads(manifest.metadata["targetModules"]),
    )


def _stored_dtype(run: FineTuneRun, model: Path) -> torch.dtype:
    """Of the model that was taught, as its configuration says it."""
    config = json.loads((model / "config.json").read_bytes())
    named = config.get("dtype") or config.get("torch_dtype")
    found = getattr(torch, str(named).removeprefix("torch."), None)
    return found if isinstance(found, torch.dtype) else DTYPES[run.spec.precision]


def _shape(config: PreTrainedConfig) -> str:
    heads = config.num_attention_heads
    return ModelShape(
        layers=config.num_hidden_layers,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_size=getattr(config, "head_dim", None) or config.hidden_size // heads,
        context_length=config.max_position_embeddings,
    ).model_dump_json(by_alias=True)
