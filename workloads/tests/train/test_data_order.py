import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmforge_workloads.common.exits import DataError
from lmforge_workloads.train.order import EvaluationSamples, Permutation, SampleOrder


def an_order(*, tokens: int = 1000, length: int = 16, seed: int = 0) -> SampleOrder:
    return SampleOrder(np.arange(tokens, dtype=np.int32), sequence_length=length, seed=seed)


@given(size=st.integers(1, 300), key=st.binary(max_size=20))
def test_a_permutation_takes_every_value_once(size: int, key: bytes) -> None:
    permutation = Permutation(size, key)
    assert sorted(permutation(index) for index in range(size)) == list(range(size))


def test_a_permutation_looks_drawn_by_chance() -> None:
    size = 4096
    values = np.array([Permutation(size, b"0")(index) for index in range(size)])
    assert abs(np.corrcoef(np.arange(size), values)[0, 1]) < 0.05
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.05
    fixed = sum(values == np.arange(size))
    assert fixed < 8  # 1 is expected


@given(tokens=st.integers(9, 500), length=st.integers(1, 8), seed=st.integers(0, 2**31 - 1), epoch=st.integers(0, 3))
def test_in_each_epoch_every_token_is_an_input_once_except_less_than_one_sample(
    tokens: int, length: int, seed: int, epoch: int
) -> None:
    order = an_order(tokens=tokens, length=length, seed=seed)
    first = epoch * order.epoch_samples
    samples = order.batch(range(first, first + order.epoch_samples))
    inputs = samples[:, :-1].flatten()
    assert len(set(inputs.tolist())) == len(inputs) == tokens - tokens % length
    assert len(set(samples[:, 1:].flatten().tolist())) == len(inputs)


def test_a_sample_is_consecutive_tokens_around_the_ring() -> None:
    samples = an_order().batch(range(200))
    assert samples.dtype == np.int64
    assert samples.shape == (200, 17)
    assert ((samples[:, 1:] - samples[:, :-1]) % 1000 == 1).all()


def test_epochs_cut_the_text_at_other_places_and_take_it_in_another_order() -> None:
    order = an_order()
    n = order.epoch_samples
    starts = [order.batch(range(epoch * n, (epoch + 1) * n))[:, 0] for epoch in range(8)]
    assert len({tuple(epoch.tolist()) for epoch in starts}) == 8
    assert len({min(epoch) for epoch in starts}) > 4


def test_another_seed_gives_another_order() -> None:
    assert (an_order(seed=1).sample(0) != an_order(seed=2).sample(0)).any()


@given(
    ranks=st.sampled_from([1, 2, 4]),
    resumed_ranks=st.sampled_from([1, 2, 4]),
    resume=st.integers(0, 9),
    seed=st.integers(0, 1000),
)
def test_neither_ranks_nor_a_resume_change_which_samples_a_step_takes(
    ranks: int, resumed_ranks: int, resume: int, seed: int
) -> None:
    batch = 4

    def steps(first: int, last: int, ranks: int) -> list[bytes]:
        order = an_order(seed=seed)  # a new process
        taken = []
        for step in range(first, last):
            mine = [order.batch(range(step * batch + rank, (step + 1) * batch, ranks)) for rank in range(ranks)]
            taken.append(np.stack(mine, axis=1).reshape(batch, -1).tobytes())
        return taken

    assert steps(0, resume, ranks) + steps(resume, 10, resumed_ranks) == steps(0, 10, 1)


def test_a_text_shorter_than_a_sample_is_refused_with_both_lengths() -> None:
    an_order(tokens=17, length=16)
    with pytest.raises(DataError, match="has 16 tokens, and one sample needs 17"):
        an_order(tokens=16, length=16)


def test_evaluation_takes_the_first_windows_in_order() -> None:
    samples = EvaluationSamples(np.arange(100, dtype=np.uint16), sequence_length=16, limit=64)
    assert len(samples) == 6
    assert (samples.batch(range(6))[:, :-1].flatten() == np.arange(96)).all()
    assert (samples.sample(5) == np.arange(80, 97)).all()
    assert len(EvaluationSamples(samples.tokens, sequence_length=16, limit=2)) == 2
