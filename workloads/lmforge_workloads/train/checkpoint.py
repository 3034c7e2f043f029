"""Checkpoints that any layout can read: fp32 weights and Adam's moments under their Hugging Face names.

    step-00000200/
      rank-00003.safetensors   what rank 3's optimizer owned: weight/<name>, exp_avg/<name>, exp_avg_sq/<name>, flat
      rank-00003.json          where each of them lies in the whole parameter, and the shard's SHA-256
      state.json               step, Adam's count of updates, loss scale, layout
      manifest.json            every file with its size and SHA-256; without it, there is no checkpoint

Nothing is rounded and nothing is pickled. On the same layout each rank reads back exactly what it wrote; on another
one, parameters are put together from the pieces and cut anew. Training draws no random numbers but those that seed
and step give, and data depends on the step alone, so there is no more state than this.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import safe_open
from torch import Tensor

from lmforge_api.artifact import FileEntry
from lmforge_workloads.train.engine import Engine, Fragment
from lmforge_workloads.train.layers import Split
from lmforge_workloads.train.layout import Layout

KINDS = ("weight", "exp_avg", "exp_avg_sq")
STATE = "state.json"


class State(BaseModel):
    """What a checkpoint holds besides tensors."""

    model_config = ConfigDict(frozen=True)

    step: int
    updates: int
    scaler: dict[str, float]
    tensor: int


class Piece(BaseModel):
    """Where the flat tensors of one parameter in one shard belong."""

    model_config = ConfigDict(frozen=True)

    name: str
    size: tuple[int, ...]
    dim: int | None
    parts: int
    tensor_rank: int
    start: int
    length: int

    @property
    def split(self) -> Split:
        """How the parameter was cut over tensor-parallel ranks."""
        return Split(self.dim, self.parts)


class Index(BaseModel):
    """The JSON beside a shard. It is written last: it says that the shard is complete."""

    model_config = ConfigDict(frozen=True)

    attempt: int
    entry: FileEntry
    pieces: list[Piece]


def piece_of(fragment: Fragment, layout: Layout) -> Piece:
    """What the index says of a fragment."""
    return Piece(
        name=fragment.name,
        size=fragment.size,
        dim=fragment.split.dim,
        parts=fragment.split.parts,
        tensor_rank=layout.tensor_rank,
        start=fragment.start,
        length=fragment.length,
    )


def load(engine: Engine, directory: Path, layout: Layout) -> State:
    """Fill the engine from a checkpoint that has been found sound."""
    state = State.model_validate_json((directory / STATE).read_bytes())
    with torch.no_grad(), Shards(directory) as shards:
        for fragment in engine.fragments():
            for kind, tensor in fragment.tensors().items():
                if state.tensor == layout.tensor:
                    shards.read(kind, fragment.name, layout.tensor_rank, fragment.start, into=tensor)
                else:
                    whole = shards.whole(kind, fragment.name)
                    part = fragment.split.cut(whole, rank=layout.tensor_rank, size=layout.tensor).reshape(-1)
                    tensor.copy_(part[fragment.start : fragment.start + fragment.length])
    engine.restored(updates=state.updates, scaler=state.scaler)
    return state


def whole_weights(directory: Path) -> Iterator[tuple[str, Tensor]]:
    """Every parameter, whole, in fp32, one at a time."""
    with Shards(directory) as shards:
        for name in sorted(shards.pieces):
            yield name, shards.whole("weight", name)


class Shards:
    """All shards of a checkpoint, opened when first read."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pieces: dict[str, list[tuple[str, Piece]]] = defaultdict(list)
        self._open: dict[str, Any] = {}
        for path in sorted(directory.glob("rank-*.json")):
            for piece in Index.model_validate_json(path.read_bytes()).pieces:
                self.pieces[piece.name].append((path.with_suffix(".safetensors").name, piece))

    def __enter__(self) -> "Shards":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.clear()

    def read(self, kind: str, name: str, tensor_rank: int, start: int, *, into: Tensor) -> None:
        """Fill `into` [length] with the elements from `start` on of this tensor-parallel rank's part."""
        end, found = start + into.numel(), 0
        for shard, piece in self.pieces[name]:
            low, high = max(start, piece.start), min(end, piece.start + piece.length)
            if piece.tensor_rank == tensor_rank and low < high:
                values = self._file(shard).get_slice(f"{kind}/{name}")[low - piece.start : high - piece.start]
                into[low - start : high - start].copy_(values)
                found += high - low
        if found != into.numel():
            raise ValueError(f"{self.directory} holds {found} of {into.numel()} elements of {kind}/{name}")

    def whole(self, kind: str, name: str) -> Tensor:
        """The whole parameter, fp32."""
        if not self.pieces[name]:
            raise ValueError(f"{self.directory} has no parameter {name}")
        first = self.pieces[name][0][1]
        ranks = sorted({piece.tensor_rank for _, piece in self.pieces[name]})
        parts = []
        for rank in ranks if first.dim is not None else ranks[:1]:
            flat = torch.empty(first.size).reshape(-1)
            self.read(kind, name, rank, 0, into=flat)
            parts.append(flat.view(first.size))
        return first.split.join(parts)

    def _file(self, shard: str) -> Any:
        if shard not in self._open:
            self._open[shard] = safe_open(self.directory / shard, framework="pt")
        return self._open[shard]
