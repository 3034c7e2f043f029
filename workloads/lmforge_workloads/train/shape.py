"""The shape of a transformer: from a TrainingJob's spec, or from and to a Hugging Face config.json."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lmforge_api import derive
from lmforge_api.trainingjob import ModelInit
from lmforge_workloads.common.exits import UserError

VOCABULARY_MULTIPLE = 64
"""New vocabularies are padded to a multiple of this in every layout: tensor cores like it, and it can be cut."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder-only transformer."""

    architecture: Literal["llama", "gpt2"]
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    positions: int
    tied: bool = True
    sinusoidal: bool = False
    rope_theta: float = 10000.0
    epsilon: float = 1e-5
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.hidden % self.heads:
            raise UserError(f"hiddenSize {self.hidden} is not a multiple of heads {self.heads}")
        if self.heads % self.kv_heads:
            raise UserError(f"heads {self.heads} is not a multiple of kvHeads {self.kv_heads}")
        if self.architecture == "llama" and self.head_size % 2:
            raise UserError(f"hiddenSize / heads is {self.head_size}: rotary positions need an even number")

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads

    def parameters(self) -> int:
        """Number of trained parameters."""
        d, f, kv = self.hidden, self.intermediate, self.kv_heads * self.head_size
        if self.architecture == "llama":
            block = 2 * d * d + 2 * d * kv + 3 * d * f + 2 * d
            outside = d
        else:
            block = 4 * d * d + 2 * d * f + 9 * d + f
            outside = 2 * d + (0 if self.sinusoidal else self.positions * d)
        return self.layers * block + outside + self.vocabulary * d * (1 if self.tied else 2)

    def flops_per_token(self, length: int) -> float:
        """Floating-point operations of forward and backward: PaLM (arXiv:2204.02311), appendix B, causal attention."""
        matrices = self.parameters() - (self.vocabulary * self.hidden if not self.tied else 0)
        return 6 * matrices + 6 * self.layers * self.hidden * length

    def check_layout(self, *, tensor: int, pipeline: int) -> None:
        """Raise `UserError` where the model can't be cut so."""
        for what, count in (("heads", self.heads), ("kvHeads", self.kv_heads), ("vocabulary", self.vocabulary),
                            ("intermediateSize", self.intermediate)):  # fmt: skip
            if count % tensor:
                raise UserError(f"parallelism.tensor {tensor} does not divide {what} {count}")
        if self.layers < pipeline:
            raise UserError(f"parallelism.pipeline {pipeline} is more than the model's {self.layers} layers")


def from_spec(init: ModelInit, *, vocabulary: int, length: int, tensor: int = 1) -> Shape:
    """The shape of a new model; `length` is the longest sequence it will see."""
    if init.architecture not in ("llama", "gpt2"):
        raise UserError(f"{init.architecture} is not a transformer")
    llama = init.architecture == "llama"
    return Shape(
        architecture="llama" if llama else "gpt2",
        layers=init.layers,
        hidden=init.hidden_size,
        intermediate=derive.intermediate_size(init),
        heads=init.heads,
        kv_heads=derive.kv_heads(init),
        vocabulary=_round_up(vocabulary, math.lcm(VOCABULARY_MULTIPLE, tensor)),
        positions=length,
        tied=init.tie_embeddings,
        sinusoidal=derive.position_encoding(init) == "sinusoidal",
        rope_theta=init.rope_theta,
        dropout=0.0 if llama else init.dropout,
    )


def from_directory(directory: Path) -> Shape:
    """The shape of the model in a Hugging Face directory."""
    path = directory / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read as a model's config.json: {error}") from error
    readers = {"llama": _from_llama, "gpt2": _from_gpt2}
    kind = config.get("model_type")
    if kind not in readers:
        raise UserError(f"{path}: model_type {kind!r} can't be trained here; use llama or gpt2")
    return readers[kind](config)


def _from_llama(config: dict[str, Any]) -> Shape:
    # transformers 5 writes rope_parameters; older files have rope_theta and rope_scaling at the top.
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        raise UserError(f"rope scaling {rope} is not supported")
    if config.get("head_dim", config["hidden_size"] // config["num_attention_heads"]) != (
        config["hidden_size"] // config["num_attention_heads"]
    ):
        raise UserError("head_dim must be hidden_size / num_attention_heads")
    for key in ("attention_bias", "mlp_bias"):
        if config.get(key):
            raise UserError(f"{key} is not supported")
    return Shape(
        architecture="llama",
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        intermediate=config["intermediate_size"],
        heads=config["num_attention_heads"],
        kv_heads=config.get("num_key_value_heads") or config["num_attention_heads"],
        vocabulary=config["vocab_size"],
        positions=config.get("max_position_embeddings", 2048),
        tied=config.get("tie_word_embeddings", False),
        rope_theta=rope.get("rope_theta", config.get("rope_theta", 10000.0)),
        epsilon=config.get("rms_norm_eps", 1e-6),
    )


def _from_gpt2(config: dict[str, Any]) -> Shape:
    return Shape(
        architecture="gpt2",
        layers=config["n_layer"],
        hidden=config["n_embd"],
        intermediate=config.get("n_inner") or 4 * config["n_embd"],
        heads=config["n_head"],
        kv_heads=config["n_head"],
        vocabulary=config["vocab_size"],
        positions=config["n_positions"],
        tied=config.get("tie_word_embeddings", True),
        epsilon=config.get("layer_norm_epsilon", 1e-5),
        dropout=config.get("resid_pdrop", 0.0),
    )


def to_config(shape: Shape) -> dict[str, object]:
    """The Hugging Face config.json of a model of this shape."""
    return _to_llama(shape) if shape.architecture == "llama" else _to_gpt2(shape)


def _to_llama(shape: Shape) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_size,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.positions,
        "rms_norm_eps": shape.epsilon,
        "rope_theta": shape.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_theta},
        "tie_word_embeddings": shape.tied,
        "attention_bias": False,
        "mlp_bias": False,
    }


def _to_gpt2(shape: Shape) -> dict[str, object]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "n_embd": shape.hidden,
        "n_inner": shape.intermediate,
        "n_layer": shape.layers,
        "n_head": shape.heads,
        "vocab_size": shape.vocabulary,
        "n_positions": shape.positions,
        "layer_norm_epsilon": shape.epsilon,
        "resid_pdrop": shape.dropout,
        "embd_pdrop": shape.dropout,
        "attn_pdrop": shape.dropout,
        "tie_word_embeddings": shape.tied,
    }


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
