"""Where the values of parameters come from, by Hugging Face name: drawn from a seed, or read from a directory.

A source gives whole parameters in the layers' own orientation, and each rank keeps its part, so that every layout
starts from the same weights.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from safetensors import safe_open
from torch import Tensor

from lmforge_workloads.common.exits import UserError
from lmforge_workloads.train.model import sinusoids
from lmforge_workloads.train.shape import Shape

_STANDARD_DEVIATION = 0.02
_RESIDUAL = ("o_proj.weight", "down_proj.weight", "c_proj.weight")
_TRANSPOSED = ("c_attn.weight", "c_fc.weight", "c_proj.weight")
"""GPT-2's Conv1D matrices are [in, out] in a Hugging Face file, [out, in] in our layers."""


class Source(Protocol):
    """Gives whole parameters."""

    def tensor(self, name: str, size: Sequence[int]) -> Tensor:
        """The parameter in fp32, of this size."""
        ...


class Drawn:
    """New weights: normal, deviation 0.02, residual projections divided by sqrt(2 × layers) (GPT-2, section 2.3)."""

    def __init__(self, seed: int, *, layers: int) -> None:
        self.seed = seed
        self.residual_deviation = _STANDARD_DEVIATION / math.sqrt(2 * layers)

    def tensor(self, name: str, size: Sequence[int]) -> Tensor:
        if name.endswith(".bias"):
            return torch.zeros(size)
        if len(size) == 1:
            return torch.ones(size)
        deviation = self.residual_deviation if name.endswith(_RESIDUAL) else _STANDARD_DEVIATION
        return torch.randn(size, generator=generator(self.seed, name)) * deviation


def generator(seed: int, *names: object) -> torch.Generator:
    """A generator of its own for everything that has a name."""
    text = "/".join(str(name) for name in (seed, *names))
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1)


class Directory:
    """The weights of a Hugging Face directory: every *.safetensors file in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._stack = ExitStack()
        self._files: dict[str, Any] = {}

    def __enter__(self) -> Self:
        for path in sorted(self.directory.glob("*.safetensors")):
            file = self._stack.enter_context(safe_open(path, framework="pt"))
            self._files.update(dict.fromkeys(file.keys(), file))
        if not self._files:
            raise UserError(f"{self.directory} holds no *.safetensors: only safetensors are read, nothing is unpickled")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def tensor(self, name: str, size: Sequence[int]) -> Tensor:
        # GPT-2's first published files leave out the prefix.
        key = next((key for key in (name, name.removeprefix("transformer.")) if key in self._files), None)
        if key is None:
            raise UserError(f"{self.directory} has no parameter {name}")
        stored: Tensor = self._files[key].get_tensor(key)
        value = oriented(name, stored).float()
        if list(value.shape) != list(size):
            raise UserError(f"{self.directory}: {name} is {list(value.shape)}, but config.json asks for {list(size)}")
        return value


def oriented(name: str, value: Tensor) -> Tensor:
    """Between a layer's orientation and the file's: its own inverse."""
    return value.t().contiguous() if name.endswith(_TRANSPOSED) else value


def for_export(state: Iterable[tuple[str, Tensor]], shape: Shape) -> Iterator[tuple[str, Tensor]]:
    """Whole parameters as Hugging Face's classes have them."""
    for name, value in state:
        yield name, oriented(name, value)
    if shape.sinusoidal:
        yield "transformer.wpe.weight", sinusoids(shape.positions, shape.hidden)
