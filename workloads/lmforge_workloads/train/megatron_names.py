"""megatron-core's parameters and Hugging Face's: which is made of which, in both directions.

Both in the layers' orientation [out, in]. megatron-core fuses q, k and v by group of key/value heads (the queries of
a group, then its key, then its value), and gate and up one after the other. Nothing is computed: values only move.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lmforge_workloads.train.layers import WHOLE, Split
from lmforge_workloads.train.shape import Shape
from lmforge_workloads.train.weights import Source

EMBEDDING = "embedding.word_embeddings.weight"
OUTPUT = "output_layer.weight"


@dataclass(frozen=True)
class Recipe:
    """How one of megatron-core's parameters is made."""

    sources: Mapping[str, tuple[int, ...]]
    """Hugging Face names -> sizes."""
    cut: Split = WHOLE
    """How it is cut over tensor-parallel ranks."""
    join: Callable[[Sequence[Tensor]], Tensor] = lambda parts: parts[0]
    part: Callable[[Tensor], Sequence[Tensor]] = lambda whole: [whole]

    def make(self, source: Source) -> Tensor:
        """The whole parameter from a source of Hugging Face's."""
        return self.join([source.tensor(name, size) for name, size in self.sources.items()])


def recipes(shape: Shape) -> dict[str, Recipe]:
    """megatron-core's name of each parameter, layers counted over all stages -> how it is made."""
    return _llama(shape) if shape.architecture == "llama" else _gpt2(shape)


def to_hugging_face(state: Iterable[tuple[str, Tensor]], shape: Shape) -> Iterator[tuple[str, Tensor]]:
    """Whole parameters under Hugging Face's names."""
    known = recipes(shape)
    for name, value in state:
        yield from zip(known[name].sources, known[name].part(value), strict=True)


def _llama(shape: Shape) -> dict[str, Recipe]:
    d, f, kv = shape.hidden, shape.intermediate, shape.kv_heads * shape.head_size
    found = _ends(shape, embedding="model.embed_tokens.weight") | {
        "decoder.final_layernorm.weight": Recipe({"model.norm.weight": (d,)})
    }
    for i in range(shape.layers):
        ours, theirs = f"decoder.layers.{i}", f"model.layers.{i}"
        qkv = {f"{theirs}.self_attn.{x}_proj.weight": (size, d) for x, size in (("q", d), ("k", kv), ("v", kv))}
        gated = {f"{theirs}.mlp.{x}_proj.weight": (f, d) for x in ("gate", "up")}
        found |= {
            f"{ours}.input_layernorm.weight": Recipe({f"{theirs}.input_layernorm.weight": (d,)}),
            f"{ours}.self_attention.linear_qkv.weight": _Groups(shape.heads, shape.kv_heads).recipe(qkv),
            f"{ours}.self_attention.linear_proj.weight": Recipe(
                {f"{theirs}.self_attn.o_proj.weight": (d, d)}, Split(1)
            ),
            f"{ours}.pre_mlp_layernorm.weight": Recipe({f"{theirs}.post_attention_layernorm.weight": (d,)}),
            f"{ours}.mlp.linear_fc1.weight": Recipe(gated, Split(0, parts=2), _stack, lambda whole: whole.chunk(2)),
            f"{ours}.mlp.linear_fc2.weight": Recipe({f"{theirs}.mlp.down_proj.weight": (d, f)}, Split(1)),
        }
    return found


def _gpt2(shape: Shape) -> dict[str, Recipe]:
    d, f = shape.hidden, shape.intermediate
    found = _ends(shape, embedding="transformer.wte.weight") | {
        "embedding.position_embeddings.weight": Recipe({"transformer.wpe.weight": (shape.positions, d)}),
        **_pair("decoder.final_layernorm", "transformer.ln_f", (d,)),
    }
    groups = _Groups(shape.heads, shape.heads)
    for i in range(shape.layers):
        ours, theirs = f"decoder.layers.{i}", f"transformer.h.{i}"
        attention = f"{ours}.self_attention"
        found |= {
            **_pair(f"{ours}.input_layernorm", f"{theirs}.ln_1", (d,)),
            f"{attention}.linear_qkv.weight": groups.fused(f"{theirs}.attn.c_attn.weight", (3 * d, d)),
            f"{attention}.linear_qkv.bias": groups.fused(f"{theirs}.attn.c_attn.bias", (3 * d,)),
            **_pair(f"{attention}.linear_proj", f"{theirs}.attn.c_proj", (d, d), Split(1), bias=WHOLE),
            **_pair(f"{ours}.pre_mlp_layernorm", f"{theirs}.ln_2", (d,)),
            **_pair(f"{ours}.mlp.linear_fc1", f"{theirs}.mlp.c_fc", (f, d), Split(0), bias=Split(0)),
            **_pair(f"{ours}.mlp.linear_fc2", f"{theirs}.mlp.c_proj", (d, f), Split(1), bias=WHOLE),
        }
    return found


def _ends(shape: Shape, *, embedding: str) -> dict[str, Recipe]:
    """Embedding and output layer."""
    size = (shape.vocabulary, shape.hidden)
    found = {EMBEDDING: Recipe({embedding: size}, Split(0))}
    return found if shape.tied else found | {OUTPUT: Recipe({"lm_head.weight": size}, Split(0))}


def _pair(
    ours: str, theirs: str, size: tuple[int, ...], cut: Split = WHOLE, *, bias: Split = WHOLE
) -> dict[str, Recipe]:
    """A layer's weight and bias."""
    return {
        f"{ours}.weight": Recipe({f"{theirs}.weight": size}, cut),
        f"{ours}.bias": Recipe({f"{theirs}.bias": size[:1]}, bias),
    }


def _stack(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts))


@dataclass(frozen=True)
class _Groups:
    """q, k and v [rows of all heads, …] <-> the rows of one key/value group after another."""

    heads: int
    groups: int

    def recipe(self, sources: Mapping[str, tuple[int, ...]]) -> Recipe:
        """From three matrices."""
        return Recipe(sources, Split(0), self.join, self.part)

    def fused(self, name: str, size: tuple[int, ...]) -> Recipe:
        """From one matrix of three blocks."""
        return Recipe(
            {name: size},
            Split(0),
            lambda parts: self.join(parts[0].chunk(3)),
            lambda whole: [torch.cat(list(self.part(whole)))],
        )

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        grouped = [part.reshape(self.groups, -1, *part.shape[1:]) for part in parts]
        return torch.cat(grouped, dim=1).flatten(0, 1)

    def part(self, whole: Tensor) -> Sequence[Tensor]:
        each = self.heads // self.groups
        grouped = whole.reshape(self.groups, each + 2, -1, *whole.shape[1:])
        queries, keys, values = torch.split(grouped, [each, 1, 1], dim=1)
        return [block.flatten(0, 2).contiguous() for block in (queries, keys, values)]
