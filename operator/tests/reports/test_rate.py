"""The rate limit, with a clock that only moves when told to."""

from lmforge_operator.reports.rate import SWEEP_ABOVE, RateLimit


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_so_many_at_once_and_then_so_many_a_second() -> None:
    clock = Clock()
    limit = RateLimit(3, clock=clock)
    assert [limit.allows("a") for _ in range(4)] == [True, True, True, False]
    clock.now += 1 / 3 + 0.01
    assert limit.allows("a")
    assert not limit.allows("a")


def test_each_has_a_bucket_of_its_own() -> None:
    limit = RateLimit(1, clock=Clock())
    assert limit.allows("a")
    assert not limit.allows("a")
    assert limit.allows("b")


def test_full_buckets_are_forgotten() -> None:
    clock = Clock()
    limit = RateLimit(1, clock=clock)
    for number in range(SWEEP_ABOVE):
        limit.allows(number)
    clock.now += 10
    limit.allows("new")
    assert len(limit._buckets) == 1
