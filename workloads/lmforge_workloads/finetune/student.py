"""A student smaller than its teacher: some layers of a model, or the same architecture in other sizes."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from lmforge_api.finetune_parts import StudentInit, StudentShape
from lmforge_workloads.common.exits import UserError

_BLOCK = re.compile(r"(?P<before>.*?\.(?:layers|h|blocks)\.)(?P<number>\d+)(?P<after>\..*)")


def make_student(model: PreTrainedModel, init: StudentInit, *, seed: int) -> PreTrainedModel:
    """The student that `init` makes of the model."""
    config = model.config
    if init.shape is not None:
        torch.manual_seed(seed)
        return _new(resized(config, init.shape), model.dtype)
    kept = kept_layers(config.num_hidden_layers, keep=init.keep_layers, drop=init.drop_layers)
    student = _new(_with_layers(config, kept), model.dtype)
    state = {name: value for key, value in model.state_dict().items() if (name := _renumbered(key, kept)) is not None}
    missing, unexpected = student.load_state_dict(state, strict=False)
    tied = set(getattr(student, "all_tied_weights_keys", {}) or {})
    if unexpected or set(missing) - tied:
        raise UserError(f"layers of {type(model).__name__} can't be left out: its weights have other names than known")
    return student


def kept_layers(layers: int, *, keep: Sequence[int], drop: Sequence[int]) -> list[int]:
    """Numbers of the layers that stay, ascending. Raises `UserError` for those that don't exist."""
    unknown = [number for number in (*keep, *drop) if number >= layers]
    if unknown:
        raise UserError(f"distill.init names layer {unknown[0]}, and the model has {layers}, counted from 0")
    kept = sorted(set(keep)) if keep else [number for number in range(layers) if number not in drop]
    if not kept:
        raise UserError(f"distill.init.dropLayers leaves none of the {layers} layers: keep at least one")
    return kept


def resized(config: PreTrainedConfig, shape: StudentShape) -> PreTrainedConfig:
    """The configuration in other sizes; what follows from sizes is derived anew."""
    values = _without_derived(config)
    ratio = config.intermediate_size / config.hidden_size
    values |= {
        "num_hidden_layers": shape.layers,
        "hidden_size": shape.hidden_size,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads or shape.heads,
        "intermediate_size": shape.intermediate_size or round(ratio * shape.hidden_size),
        "head_dim": shape.hidden_size // shape.heads,
    }
    return type(config)(**values)


def _with_layers(config: PreTrainedConfig, kept: Sequence[int]) -> PreTrainedConfig:
    values = _without_derived(config) | {"num_hidden_layers": len(kept)}
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        values["layer_types"] = [kinds[number] for number in kept]
    return type(config)(**values)


def _without_derived(config: PreTrainedConfig) -> dict[str, Any]:
    values: dict[str, Any] = config.to_dict()
    for name in ("layer_types", "architectures", "_name_or_path"):
        values.pop(name, None)
    return values


def _renumbered(key: str, kept: Sequence[int]) -> str | None:
    """The name that a weight has in the student; None where its layer is left out."""
    found = _BLOCK.fullmatch(key)
    if found is None:
        return key
    number = int(found["number"])
    return f"{found['before']}{kept.index(number)}{found['after']}" if number in kept else None


def _new(config: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    return AutoModelForCausalLM.from_config(config, dtype=dtype)
