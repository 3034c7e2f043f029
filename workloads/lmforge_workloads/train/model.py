"""Llama and GPT-2, written once for every layout: a list of pieces that run one after the other.

Names of parameters are those of Hugging Face's LlamaForCausalLM and GPT2LMHeadModel. Shape suffixes: B batch,
T time, D hidden, H heads, K head size, V vocabulary (this rank's part of H and V under tensor parallelism).
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lmforge_workloads.train.layers import Layers, Split, mark
from lmforge_workloads.train.shape import Shape


@dataclass(frozen=True)
class Piece:
    """One step of the forward pass: `make` builds the module whose parameters have names below `name`.

    `tied_to` names the piece whose weight this one uses as well.
    """

    name: str
    make: Callable[[], nn.Module]
    tied_to: str | None = None
    is_block: bool = False

    def build(self) -> nn.Module:
        """The module, every parameter marked with its full name."""
        module = self.make()
        for name, parameter in module.named_parameters():
            parameter.logical_name = f"{self.name}.{name}"  # type: ignore[attr-defined]
        return module


def pieces(shape: Shape, layers: Layers, *, recompute: bool = False) -> list[Piece]:
    """The model from tokens [B, T] to logits [B, T, V]. `recompute` saves memory in the backward pass."""
    return (_llama if shape.architecture == "llama" else _gpt2)(shape, layers, recompute)


class Transformer(nn.Module):
    """All pieces in one process."""

    def __init__(self, parts: list[Piece], layers: Layers) -> None:
        super().__init__()
        self.layers = layers
        built: dict[str, nn.Module] = {}
        for part in parts:
            built[part.name] = part.build()
            if part.tied_to:
                built[part.name].weight = built[part.tied_to].weight
        self.pieces = nn.ModuleList(built.values())

    def logits(self, tokens_BT: Tensor) -> Tensor:
        """[B, T] -> [B, T, V]."""
        x = tokens_BT
        for piece in self.pieces:
            x = piece(x)
        return x

    def forward(self, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Mean loss over the tokens, in nats."""
        return self.layers.loss(self.logits(tokens_BT), targets_BT)


def named_parameters(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Every parameter of this rank once, under its Hugging Face name."""
    for parameter in module.parameters():
        yield parameter.logical_name, parameter  # type: ignore[attr-defined]


def _llama(shape: Shape, layers: Layers, recompute: bool) -> list[Piece]:
    norm = functools.partial(nn.RMSNorm, shape.hidden, eps=shape.epsilon)
    return [
        Piece("model.embed_tokens", lambda: layers.embedding(shape.vocabulary, shape.hidden)),
        *_blocks("model.layers", shape, lambda: LlamaBlock(shape, layers, recompute)),
        Piece("model.norm", norm),
        _head(shape, layers, tied_to="model.embed_tokens"),
    ]


class LlamaBlock(nn.Module):
    """[B, T, D] -> [B, T, D]."""

    def __init__(self, shape: Shape, layers: Layers, recompute: bool) -> None:
        super().__init__()
        self.recompute = recompute
        self.input_layernorm = nn.RMSNorm(shape.hidden, eps=shape.epsilon)
        self.self_attn = LlamaAttention(shape, layers)
        self.post_attention_layernorm = nn.RMSNorm(shape.hidden, eps=shape.epsilon)
        self.mlp = LlamaMLP(shape, layers)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return _maybe_recomputed(self, x_BTD)

    def compute(self, x_BTD: Tensor) -> Tensor:
        """The forward pass itself."""
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD))
        output: Tensor = x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))
        return output


class LlamaAttention(nn.Module):
    """Causal attention with rotary positions and grouped key/value heads."""

    def __init__(self, shape: Shape, layers: Layers) -> None:
        super().__init__()
        self.shape = shape
        kv_size = shape.kv_heads * shape.head_size
        self.q_proj = layers.column(shape.hidden, shape.hidden)
        self.k_proj = layers.column(shape.hidden, kv_size)
        self.v_proj = layers.column(shape.hidden, kv_size)
        self.o_proj = layers.row(shape.hidden, shape.hidden)

    def forward(self, x_BTD: Tensor) -> Tensor:
        q, k, v = (
            _heads(projection(x_BTD), self.shape.head_size) for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        tables = _rotary_tables(x_BTD.shape[1], self.shape.head_size, self.shape.rope_theta, x_BTD.device)
        grouped = k.shape[1] != q.shape[1]
        q, k = _rotate(q, tables), _rotate(k, tables)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
        output: Tensor = self.o_proj(_merge(y))
        return output


class LlamaMLP(nn.Module):
    """SwiGLU (arXiv:2002.05202)."""

    def __init__(self, shape: Shape, layers: Layers) -> None:
        super().__init__()
        self.gate_proj = layers.column(shape.hidden, shape.intermediate)
        self.up_proj = layers.column(shape.hidden, shape.intermediate)
        self.down_proj = layers.row(shape.intermediate, shape.hidden)

    def forward(self, x_BTD: Tensor) -> Tensor:
        output: Tensor = self.down_proj(F.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))
        return output


def _rotate(x_BHTK: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions (arXiv:2104.09864) in Hugging Face's order: the halves of K are the pairs."""
    cosines_TK, sines_TK = tables
    first, second = x_BHTK.float().chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return (x_BHTK.float() * cosines_TK + turned * sines_TK).to(x_BHTK.dtype)


@functools.lru_cache(maxsize=4)
def _rotary_tables(length: int, size: int, theta: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines [T, K] in fp32: not buffers, which an engine would round to the model's precision."""
    frequencies = theta ** (-torch.arange(0, size, 2, device=device, dtype=torch.float32) / size)
    angles = torch.outer(torch.arange(length, device=device, dtype=torch.float32), frequencies)
    angles_TK = torch.cat([angles, angles], dim=-1)
    return angles_TK.cos(), angles_TK.sin()


def _gpt2(shape: Shape, layers: Layers, recompute: bool) -> list[Piece]:
    return [
        Piece("transformer.wte", lambda: layers.embedding(shape.vocabulary, shape.hidden)),
        Piece("transformer.wpe", lambda: Sinusoids(shape) if shape.sinusoidal else Positions(shape)),
        *_blocks("transformer.h", shape, lambda: GPT2Block(shape, layers, recompute)),
        Piece("transformer.ln_f", lambda: nn.LayerNorm(shape.hidden, eps=shape.epsilon)),
        _head(shape, layers, tied_to="transformer.wte"),
    ]


class Positions(nn.Module):
    """Adds a learned vector for each position to [B, T, D]."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape.positions, shape.hidden))
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x_BTD: Tensor) -> Tensor:
        output: Tensor = self.dropout(x_BTD + self.weight[: x_BTD.shape[1]])
        return output


class Sinusoids(nn.Module):
    """Adds fixed sines and cosines of each position to [B, T, D]."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x_BTD: Tensor) -> Tensor:
        table = sinusoids(x_BTD.shape[1], x_BTD.shape[2], device=x_BTD.device)
        output: Tensor = self.dropout(x_BTD + table.to(x_BTD.dtype))
        return output


def sinusoids(length: int, hidden: int, *, device: torch.device | str = "cpu") -> Tensor:
    """[length, hidden]: sines in even, cosines in odd columns (arXiv:1706.03762, section 3.5)."""
    positions = torch.arange(length, device=device, dtype=torch.float32)[:, None]
    columns = torch.arange(hidden, device=device)
    angles = positions * 10000.0 ** (-(columns - columns % 2).float() / hidden)
    return torch.where(columns % 2 == 0, angles.sin(), angles.cos())


class GPT2Block(nn.Module):
    """[B, T, D] -> [B, T, D]."""

    def __init__(self, shape: Shape, layers: Layers, recompute: bool) -> None:
        super().__init__()
        self.recompute = recompute
        self.ln_1 = nn.LayerNorm(shape.hidden, eps=shape.epsilon)
        self.attn = GPT2Attention(shape, layers)
        self.ln_2 = nn.LayerNorm(shape.hidden, eps=shape.epsilon)
        self.mlp = GPT2MLP(shape, layers)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return _maybe_recomputed(self, x_BTD)

    def compute(self, x_BTD: Tensor) -> Tensor:
        """The forward pass itself."""
        x_BTD = x_BTD + self.attn(self.ln_1(x_BTD))
        output: Tensor = x_BTD + self.mlp(self.ln_2(x_BTD))
        return output


class GPT2Attention(nn.Module):
    """Causal attention; q, k and v are one matrix."""

    def __init__(self, shape: Shape, layers: Layers) -> None:
        super().__init__()
        self.shape = shape
        self.c_attn = layers.column(shape.hidden, 3 * shape.hidden, bias=True, parts=3)
        self.c_proj = layers.row(shape.hidden, shape.hidden, bias=True)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x_BTD: Tensor) -> Tensor:
        q, k, v = (_heads(part, self.shape.head_size) for part in self.c_attn(x_BTD).chunk(3, dim=-1))
        rate = self.shape.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=rate)
        output: Tensor = self.dropout(self.c_proj(_merge(y)))
        return output


class GPT2MLP(nn.Module):
    """GELU in its tanh form, as GPT-2 has it."""

    def __init__(self, shape: Shape, layers: Layers) -> None:
        super().__init__()
        self.c_fc = layers.column(shape.hidden, shape.intermediate, bias=True)
        self.c_proj = layers.row(shape.intermediate, shape.hidden, bias=True)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x_BTD: Tensor) -> Tensor:
        output: Tensor = self.dropout(self.c_proj(F.gelu(self.c_fc(x_BTD), approximate="tanh")))
        return output


class Head(nn.Module):
    """[B, T, D] -> logits [B, T, V]; a tied head gets the embedding's weight."""

    weight: Tensor

    def __init__(self, shape: Shape, layers: Layers) -> None:
        super().__init__()
        self.layers = layers
        if not shape.tied:
            self.weight = nn.Parameter(torch.empty(shape.vocabulary // layers.size, shape.hidden))
            mark(self.weight, Split(0))

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.layers.logits(x_BTD, self.weight)


def _head(shape: Shape, layers: Layers, *, tied_to: str) -> Piece:
    return Piece("lm_head", lambda: Head(shape, layers), tied_to=tied_to if shape.tied else None)


def _blocks(prefix: str, shape: Shape, make: Callable[[], nn.Module]) -> list[Piece]:
    return [Piece(f"{prefix}.{index}", make, is_block=True) for index in range(shape.layers)]


def _heads(x_BTD: Tensor, size: int) -> Tensor:
    """[B, T, H*K] -> [B, H, T, K]."""
    return x_BTD.view(*x_BTD.shape[:2], -1, size).transpose(1, 2)


def _merge(x_BHTK: Tensor) -> Tensor:
    return x_BHTK.transpose(1, 2).flatten(2)


def _maybe_recomputed(block: "LlamaBlock | GPT2Block", x_BTD: Tensor) -> Tensor:
    if block.recompute and block.training and torch.is_grad_enabled():
        output: Tensor = checkpoint(block.compute, x_BTD, use_reentrant=False)
        return output
    return block.compute(x_BTD)
