"""Which tokens sample i is made of: a function of the seed and i alone, not of ranks, batches or what came before.

The corpus of T tokens is taken as a ring. Each epoch cuts it at a new place into T // L windows of L + 1 tokens (the
last token of one is the first of the next: each window predicts L tokens), and takes them in a new order. So in an
epoch each token is an input once, except the T mod L left over, which differ from epoch to epoch. The order is a
keyed permutation (a Feistel network with cycle walking, Black and Rogaway 2002), so that nothing is stored.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lmforge_workloads.common.exits import DataError
from lmforge_workloads.train.indexed import Tokens

_ROUNDS = 4  # Luby and Rackoff 1988: four make a strong pseudorandom permutation

Sample = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Permutation:
    """A bijection of range(size) drawn by `key`; each value costs microseconds and no memory."""

    size: int
    key: bytes

    def __call__(self, index: int) -> int:
        assert 0 <= index < self.size
        half = max(1, ((self.size - 1).bit_length() + 1) // 2)
        while True:  # at most 4 turns on average, since the network's domain is at most 4 times too large
            index = self._shuffle(index, half)
            if index < self.size:
                return index

    def _shuffle(self, index: int, half: int) -> int:
        mask = (1 << half) - 1
        left, right = index >> half, index & mask
        for turn in range(_ROUNDS):
            left, right = right, left ^ (_hash(self.key, turn, right) & mask)
        return left << half | right


class SampleOrder:
    """Samples of `sequence_length` + 1 tokens, for any index from 0 on; they go on over epochs, in new orders."""

    def __init__(self, tokens: Tokens, *, sequence_length: int, seed: int) -> None:
        _refuse_short(tokens, sequence_length)
        self.tokens = tokens
        self.sequence_length = sequence_length
        self.epoch_samples = len(tokens) // sequence_length
        self._seed = seed

    def sample(self, index: int) -> Sample:
        """int64 [sequence_length + 1]: inputs are [:-1], targets [1:]."""
        epoch, place = divmod(index, self.epoch_samples)
        key = f"{self._seed}/{epoch}".encode()
        window = Permutation(self.epoch_samples, key)(place)
        start = _hash(key, _ROUNDS, 0) + window * self.sequence_length
        return _ring(self.tokens, start % len(self.tokens), self.sequence_length + 1)

    def batch(self, indices: Sequence[int]) -> Sample:
        """int64 [len(indices), sequence_length + 1]."""
        return np.stack([self.sample(index) for index in indices])


class EvaluationSamples:
    """The first `limit` windows of the evaluation text, in order: the same for every model, rank and layout."""

    def __init__(self, tokens: Tokens, *, sequence_length: int, limit: int) -> None:
        _refuse_short(tokens, sequence_length)
        self.tokens = tokens
        self.sequence_length = sequence_length
        self.count = min(limit, (len(tokens) - 1) // sequence_length)

    def __len__(self) -> int:
        return self.count

    def sample(self, index: int) -> Sample:
        """int64 [sequence_length + 1]."""
        assert 0 <= index < self.count
        start = index * self.sequence_length
        return np.asarray(self.tokens[start : start + self.sequence_length + 1], dtype=np.int64)

    def batch(self, indices: Sequence[int]) -> Sample:
        """int64 [len(indices), sequence_length + 1]."""
        return np.stack([self.sample(index) for index in indices])


def _ring(tokens: Tokens, start: int, length: int) -> Sample:
    head = tokens[start : start + length]
    return np.concatenate([head, tokens[: length - len(head)]]).astype(np.int64)


def _hash(key: bytes, turn: int, value: int) -> int:
    block = value.to_bytes(8, "little") + bytes([turn])
    return int.from_bytes(hashlib.blake2b(block, key=key, digest_size=8).digest(), "little")


def _refuse_short(tokens: Tokens, sequence_length: int) -> None:
    if len(tokens) < sequence_length + 1:
        raise DataError(
            f"the text has {len(tokens)} tokens, and one sample needs {sequence_length + 1}:"
            " give more text or lower sequenceLength"
        )
