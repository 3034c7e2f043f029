"""Megatron's .bin/.idx: all tokens one after another in .bin, and where sequences and documents begin in .idx.

The format is megatron-core's `IndexedDataset` (tests read each other's files). It isn't imported: that takes
15 s, which every resumed attempt would pay.

    .idx: magic, version, dtype code, number of sequences S, number of document marks D + 1,
          int32[S] lengths in tokens, int64[S] offsets in bytes, int64[D + 1] first sequence of each document
"""

import struct
from array import array
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from lmforge_workloads.common.exits import DataError

_MAGIC = b"MMIDIDX\x00\x00"
_HEADER = struct.Struct("<9sQBQQ")
_CODES: dict[int, type[np.integer[Any]]] = {
    1: np.uint8, 2: np.int8, 3: np.int16, 4: np.int32, 5: np.int64, 8: np.uint16,
}  # fmt: skip
_LARGEST_UINT16_VOCABULARY = 65_500  # Megatron's own threshold

Tokens = npt.NDArray[np.integer[Any]]


def token_dtype(vocabulary: int) -> type[np.integer[Any]]:
    """Smallest type for token ids, by Megatron's rule."""
    return np.uint16 if vocabulary < _LARGEST_UINT16_VOCABULARY else np.int32


class IndexedWriter:
    """Appends sequences of tokens; the index is written when it is closed without an error."""

    def __init__(self, prefix: Path, *, dtype: type[np.integer[Any]]) -> None:
        self.prefix = prefix
        self.dtype = dtype
        self._bin = prefix.with_suffix(".bin").open("wb")
        self._lengths = array("i")
        self._documents = array("q", [0])

    @property
    def tokens(self) -> int:
        """Tokens written so far."""
        return self._bin.tell() // np.dtype(self.dtype).itemsize

    def add(self, sequence: npt.ArrayLike, *, ends_document: bool = True) -> None:
        """Append one sequence. A document may consist of several."""
        tokens = np.asarray(sequence, dtype=self.dtype)
        self._bin.write(tokens.tobytes())
        self._lengths.append(len(tokens))
        if ends_document:
            self._documents.append(len(self._lengths))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bin.close()
        if error is None:
            self._write_index()

    def _write_index(self) -> None:
        lengths = np.frombuffer(self._lengths, dtype=np.int32) if self._lengths else np.empty(0, np.int32)
        sizes = lengths.astype(np.int64) * np.dtype(self.dtype).itemsize
        code = next(code for code, dtype in _CODES.items() if dtype is self.dtype)
        if self._documents[-1] != len(lengths):
            self._documents.append(len(lengths))
        with self.prefix.with_suffix(".idx").open("wb") as file:
            file.write(_HEADER.pack(_MAGIC, 1, code, len(lengths), len(self._documents)))
            file.write(lengths.tobytes())
            file.write((np.cumsum(sizes) - sizes).tobytes())
            file.write(self._documents.tobytes())


class IndexedDataset:
    """Memory-mapped reader. `tokens` is all of .bin; indexing gives one sequence."""

    def __init__(self, prefix: Path) -> None:
        index, data = prefix.with_suffix(".idx"), prefix.with_suffix(".bin")
        with index.open("rb") as file:
            header = file.read(_HEADER.size)
        if len(header) < _HEADER.size or not header.startswith(_MAGIC):
            raise DataError("this is not an index of tokens (.idx): delete it to have it made anew", file=str(index))
        _, _, code, sequences, marks = _HEADER.unpack(header)
        offset = _HEADER.size
        self.lengths: npt.NDArray[np.int32] = _map(index, np.int32, sequences, offset)
        self.offsets: npt.NDArray[np.int64] = _map(index, np.int64, sequences, offset + 4 * sequences)
        self.documents: npt.NDArray[np.int64] = _map(index, np.int64, marks, offset + 12 * sequences)
        dtype = np.dtype(_CODES[code])
        self._itemsize = dtype.itemsize
        expected = int(self.offsets[-1]) + int(self.lengths[-1]) * dtype.itemsize if sequences else 0
        if data.stat().st_size != expected:
            raise DataError(f"{data.stat().st_size} bytes, but its index says {expected}", file=str(data))
        self.tokens: Tokens = _map(data, _CODES[code], expected // dtype.itemsize, 0)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Tokens:
        start = int(self.offsets[index]) // self._itemsize
        return self.tokens[start : start + int(self.lengths[index])]


def _map(path: Path, dtype: type[np.integer[Any]], count: int, offset: int) -> Any:
    if count == 0:
        return np.empty(0, dtype)  # an empty file can't be mapped
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=(count,))
