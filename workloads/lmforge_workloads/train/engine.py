"""What the training loop asks of an engine, whichever library does the work."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from lmforge_workloads.train.layers import Split
from lmforge_workloads.train.weights import Source


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step gave; the same on all ranks."""

    loss: float
    gradient_norm: float | None
    loss_scale: float | None
    skipped: bool
    """fp16: gradients were infinite, the weights have not changed."""


@dataclass(frozen=True)
class Fragment:
    """A piece of one parameter that this rank's optimizer owns: live fp32 tensors, flat, all of one length."""

    name: str
    size: tuple[int, ...]
    """Of this tensor-parallel rank's part."""
    split: Split
    start: int
    """Offset in the flattened part."""
    weight: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor
    owned: bool
    """Whether this rank saves it: of equal copies, one rank does."""

    @property
    def length(self) -> int:
        """Elements."""
        return self.weight.numel()

    def tensors(self) -> dict[str, Tensor]:
        """By the names that checkpoints use."""
        return {"weight": self.weight, "exp_avg": self.exp_avg, "exp_avg_sq": self.exp_avg_sq}


class Engine(Protocol):
    """A model, its optimizer and its place in the layout."""

    def train_step(self, micro_batches: Sequence[Tensor], *, learning_rate: float) -> StepResult:
        """One optimizer step over micro batches [micro, T + 1] of this data-parallel rank."""
        ...

    def evaluate(self, micro_batches: Sequence[Tensor]) -> float:
        """Mean loss over the micro batches of all ranks."""
        ...

    def fragments(self) -> Iterator[Fragment]:
        """What this rank's optimizer owns; together, the ranks own every parameter."""
        ...

    def initialise(self, source: Source) -> None:
        """Set weights from `source`, moments to zero."""
        ...

    def restored(self, *, updates: int, scaler: dict[str, float]) -> None:
        """Called when the fragments' tensors have been overwritten: bring the model itself in line."""
        ...

    def updates(self) -> int:
        """Optimizer steps that were not skipped (Adam's bias correction counts them)."""
        ...

    def scaler(self) -> dict[str, float]:
        """State of the dynamic loss scale; empty without fp16."""
        ...
