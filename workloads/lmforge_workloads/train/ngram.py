"""An n-gram model with interpolated modified Kneser-Ney smoothing (Chen and Goodman 1998, section 3), in numpy.

The training tokens are taken as a ring, so that every context has a continuation and every gram an extension to the
left. Grams of each length k are the nodes of a trie, numbered in the order of their keys: the key of w1…wk is
node(w1…wk-1) × V + wk. Looking up all positions of a text is then one binary search a level.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lmforge_workloads.train.indexed import Tokens

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_NONE = -1  # node of a gram that was never seen
_DEFAULT_DISCOUNTS = (0.5, 1.0, 1.5)  # where a text is too small to estimate them


@dataclass(frozen=True)
class Level:
    """Grams of one length k, and the distribution over the last token given the k - 1 before it."""

    keys: Ints
    """[grams], sorted."""
    discounted: Floats
    """[grams]: (count - discount) / total of its context."""
    rest: Floats
    """[grams of length k - 1]: share of each context that goes to the shorter context."""

    def find(self, keys: Ints) -> Ints:
        """Node of each key, or -1."""
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[places] == keys, places, _NONE)


@dataclass(frozen=True)
class NgramModel:
    """Probabilities of the next token given up to order - 1 tokens before it."""

    vocabulary: int
    levels: tuple[Level, ...]

    @property
    def order(self) -> int:
        """Length of the longest grams."""
        return len(self.levels)

    @property
    def parameters(self) -> int:
        """Number of grams of all lengths."""
        return sum(len(level.keys) for level in self.levels)

    def log_probabilities(self, samples: npt.ArrayLike) -> Floats:
        """[B, T + 1] tokens -> [B, T]: natural logarithm of the probability of tokens 1 to T, each given what
        comes before it in its own row, as a transformer sees it."""
        tokens_BT = np.asarray(samples, dtype=np.int64)
        probability_BT = np.full(tokens_BT.shape, 1.0 / self.vocabulary)
        context_BT = np.zeros_like(tokens_BT)  # node of the context that ends before each token: the empty one
        for level in self.levels:
            known = context_BT != _NONE
            node_BT = level.find(context_BT * self.vocabulary + tokens_BT)
            node_BT[~known] = _NONE
            seen_BT = np.where(node_BT != _NONE, level.discounted[node_BT], 0.0)
            probability_BT = np.where(known, seen_BT + level.rest[context_BT] * probability_BT, probability_BT)
            context_BT = np.concatenate([np.full_like(node_BT[:, :1], _NONE), node_BT[:, :-1]], axis=1)
        logarithm_BT: Floats = np.log(probability_BT[:, 1:])
        return logarithm_BT

    def save(self, directory: Path) -> None:
        """config.json and model.safetensors."""
        from safetensors.numpy import save_file

        config = {
            "model_type": "lmforge-ngram",
            "loaded_by": "lmforge_workloads.train.ngram.NgramModel.load",
            "smoothing": "interpolated modified Kneser-Ney",
            "order": self.order,
            "vocab_size": self.vocabulary,
        }
        (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        arrays = {f"{k}.{name}": array for k, level in enumerate(self.levels, 1) for name, array in vars(level).items()}
        save_file(arrays, directory / "model.safetensors")

    @classmethod
    def load(cls, directory: Path) -> "NgramModel":
        """Read what `save` wrote."""
        from safetensors.numpy import load_file

        config: dict[str, Any] = json.loads((directory / "config.json").read_text())
        arrays = load_file(directory / "model.safetensors")
        names = Level.__dataclass_fields__
        levels = (Level(**{name: arrays[f"{k}.{name}"] for name in names}) for k in range(1, config["order"] + 1))
        return cls(config["vocab_size"], tuple(levels))


def fit(tokens: Tokens, *, order: int, vocabulary: int) -> NgramModel:
    """Count all grams up to `order` tokens long, and smooth."""
    counted = _count(np.asarray(tokens, dtype=np.int64), order=order, vocabulary=vocabulary)
    levels = []
    for k, grams in enumerate(counted):
        contexts = len(counted[k - 1].keys) if k else 1
        longest = k == order - 1
        counts = grams.counts if longest else np.bincount(counted[k + 1].suffixes, minlength=len(grams.keys))
        levels.append(_smooth(grams.keys, counts, contexts=contexts, vocabulary=vocabulary))
    return NgramModel(vocabulary, tuple(levels))


@dataclass(frozen=True)
class _Grams:
    keys: Ints
    counts: Ints
    suffixes: Ints
    """Node of each gram without its first token."""


def _count(ring: Ints, *, order: int, vocabulary: int) -> list[_Grams]:
    levels = []
    shorter = np.zeros_like(ring)  # node of the gram that ends at each position; the empty one at first
    prefix = shorter
    for _ in range(order):
        keys, first, node, counts = np.unique(
            prefix * vocabulary + ring, return_index=True, return_inverse=True, return_counts=True
        )
        levels.append(_Grams(keys, counts, shorter[first]))
        shorter = node.astype(np.int64)
        prefix = np.roll(shorter, 1)
    return levels


def _smooth(keys: Ints, counts: Ints, *, contexts: int, vocabulary: int) -> Level:
    discount = np.array([0.0, *_discounts(counts)])[np.minimum(counts, 3)]
    context = keys // vocabulary
    totals = np.bincount(context, weights=counts, minlength=contexts)
    rest = np.bincount(context, weights=discount, minlength=contexts) / totals
    return Level(keys, (counts - discount) / totals[context], rest)


def _discounts(counts: Ints) -> tuple[float, ...]:
    """Discounts of grams seen once, twice, and more often: Chen and Goodman's equation 26."""
    n1, n2, n3, n4 = (int((counts == n).sum()) for n in range(1, 5))
    if not all((n1, n2, n3, n4)):
        return _DEFAULT_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    estimates = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return tuple(min(max(value, 0.1), n) for n, value in enumerate(estimates, 1))
