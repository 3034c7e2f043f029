"""In which order rows are learned: one sequence, from which the batches of all steps are cut.

It doesn't end with an epoch, so that each step has a full batch, whatever the number of rows. (transformers begins anew
with each epoch: a step on what is left over, which accelerate fills up by rows of the epoch's beginning where ranks
would get unequal shares. How much each row counts then depends on the number of ranks.)
"""

from collections.abc import Iterator
from itertools import count

import numpy as np
from torch.utils.data import Sampler


class Order(Sampler[int]):
    """All rows, then all of them again: each time in another order, which the seed decides."""

    def __init__(self, rows: int, *, length: int, seed: int) -> None:
        self.rows = rows
        self.length = length
        self.seed = seed

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        left = self.length
        for epoch in count():
            order = np.random.default_rng((self.seed, epoch)).permutation(self.rows)
            yield from order[:left].tolist()
            left -= self.rows
            if left <= 0:
                return
