"""The order of rows: each epoch has all of them, and epochs follow one another without a gap."""

from lmforge_workloads.finetune.order import Order


def test_every_row_is_seen_once_an_epoch_and_each_epoch_is_shuffled_anew() -> None:
    order = list(Order(7, length=17, seed=3))
    epochs = [order[:7], order[7:14], order[14:]]
    assert len(order) == len(Order(7, length=17, seed=3)) == 17
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(7))
    assert len(set(epochs[2])) == 3
    assert epochs[0] != epochs[1]


def test_the_seed_decides_and_a_longer_run_begins_as_a_shorter_one() -> None:
    assert list(Order(7, length=20, seed=3))[:10] == list(Order(7, length=10, seed=3))
    assert list(Order(7, length=10, seed=3)) != list(Order(7, length=10, seed=4))


def test_fewer_rows_than_a_batch_are_seen_again() -> None:
    assert sorted(Order(2, length=8, seed=0)) == [0] * 4 + [1] * 4
