"""The LSTM baseline: embedding, stacked LSTM with dropout between layers (Zaremba et al. 2014), output layer.

It is made of pieces as the transformers are, so that the same engine trains it, data parallel only: a recurrence has
nothing to cut. Parameters are named as in `LstmLanguageModel`, which is plain PyTorch and loads what is exported.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lmforge_api.trainingjob import ModelInit
from lmforge_workloads.common.exits import UserError
from lmforge_workloads.train.layers import Layers
from lmforge_workloads.train.model import Piece
from lmforge_workloads.train.weights import generator


@dataclass(frozen=True)
class LstmShape:
    """Sizes of an LSTM language model."""

    layers: int
    hidden: int
    vocabulary: int
    tied: bool = True
    dropout: float = 0.0
    architecture: Literal["lstm"] = "lstm"
    sinusoidal: bool = False

    def parameters(self) -> int:
        """Number of trained parameters."""
        layer = 8 * self.hidden**2 + 8 * self.hidden
        return self.layers * layer + self.vocabulary * self.hidden * (1 if self.tied else 2)

    def flops_per_token(self, length: int) -> float:
        """Floating-point operations of forward and backward."""
        return 6.0 * (self.layers * 8 * self.hidden**2 + self.vocabulary * self.hidden)

    def check_layout(self, *, tensor: int, pipeline: int) -> None:
        """Raise `UserError` where the model can't be cut so."""
        if tensor > 1 or pipeline > 1:
            raise UserError("an lstm is trained data parallel only: set parallelism.tensor and pipeline to 1")

    def config(self) -> dict[str, object]:
        """Its config.json, and what loads it."""
        loader = "lmforge_workloads.train.lstm.LstmLanguageModel.from_directory"
        sizes = {"num_layers": self.layers, "hidden_size": self.hidden, "vocab_size": self.vocabulary}
        return {"model_type": "lmforge-lstm", "loaded_by": loader, **sizes, "tie_word_embeddings": self.tied}


def shape_of(init: ModelInit, *, vocabulary: int) -> LstmShape:
    """The shape of a new model."""
    return LstmShape(init.layers, init.hidden_size, vocabulary, init.tie_embeddings, init.dropout)


def pieces(shape: LstmShape, layers: Layers) -> list[Piece]:
    """The model from tokens [B, T] to logits [B, T, V]."""
    return [
        Piece("embedding", lambda: layers.embedding(shape.vocabulary, shape.hidden)),
        Piece("lstm", lambda: Recurrence(shape), is_block=True),
        Piece("head", lambda: Output(shape, layers), tied_to="embedding" if shape.tied else None),
    ]


class Recurrence(nn.LSTM):
    """[B, T, D] -> [B, T, D], every sample from a zero state."""

    def __init__(self, shape: LstmShape) -> None:
        between = shape.dropout if shape.layers > 1 else 0.0
        super().__init__(shape.hidden, shape.hidden, shape.layers, batch_first=True, dropout=between)

    def reset_parameters(self) -> None:
        """Weights are set by name afterwards."""

    def forward(self, x_BTD: Tensor) -> Tensor:  # type: ignore[override]
        output_BTD: Tensor = super().forward(x_BTD)[0]
        return output_BTD


class Output(nn.Module):
    """[B, T, D] -> logits [B, T, V]; a tied one gets the embedding's weight."""

    weight: Tensor

    def __init__(self, shape: LstmShape, layers: Layers) -> None:
        super().__init__()
        self.layers = layers
        self.dropout = nn.Dropout(shape.dropout)
        if not shape.tied:
            self.weight = nn.Parameter(torch.empty(shape.vocabulary, shape.hidden))

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.layers.logits(self.dropout(x_BTD), self.weight)


class Drawn:
    """New weights: uniform within 1/sqrt(hidden) as PyTorch has them, embeddings normal with deviation 0.02,
    biases zero except the forget gates', which add up to one (Jozefowicz et al. 2015)."""

    def __init__(self, seed: int, *, hidden: int) -> None:
        self.seed = seed
        self.hidden = hidden

    def tensor(self, name: str, size: Sequence[int]) -> Tensor:
        """The parameter in fp32, of this size."""
        random = generator(self.seed, name)
        if len(size) == 1:
            bias = torch.zeros(size)
            bias[self.hidden : 2 * self.hidden] = 0.5  # PyTorch's order is i, f, g, o; there are two biases
            return bias
        if name.startswith("lstm."):
            bound = 1 / math.sqrt(self.hidden)
            return torch.rand(size, generator=random) * 2 * bound - bound
        return torch.randn(size, generator=random) * 0.02


class LstmLanguageModel(nn.Module):
    """The same model in plain PyTorch."""

    def __init__(self, *, layers: int, hidden: int, vocabulary: int, tied: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.lstm = nn.LSTM(hidden, hidden, layers, batch_first=True)
        self.head = nn.Linear(hidden, vocabulary, bias=False)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """[B, T] -> logits [B, T, V]."""
        logits_BTV: Tensor = self.head(self.lstm(self.embedding(tokens_BT))[0])
        return logits_BTV

    @classmethod
    def from_directory(cls, directory: Path) -> "LstmLanguageModel":
        """Read an exported model."""
        config: dict[str, Any] = json.loads((directory / "config.json").read_text())
        model = cls(
            layers=config["num_layers"], hidden=config["hidden_size"], vocabulary=config["vocab_size"],
            tied=config["tie_word_embeddings"],
        )  # fmt: skip
        weights = load_file(directory / "model.safetensors")
        if config["tie_word_embeddings"]:
            weights["head.weight"] = weights["embedding.weight"]
        model.load_state_dict(weights)
        return model.eval()
