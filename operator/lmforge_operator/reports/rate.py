"""How often each object may report: a token bucket each, forgotten when it is full again."""

from collections.abc import Callable, Hashable

SWEEP_ABOVE = 1000


class RateLimit:
    """Allows `per_second` on average, and as many at once."""

    def __init__(self, per_second: float, *, clock: Callable[[], float]) -> None:
        self._per_second = per_second
        self._clock = clock
        self._buckets: dict[Hashable, tuple[float, float]] = {}

    def allows(self, key: Hashable) -> bool:
        """Takes one from the bucket, if there is one."""
        now = self._clock()
        capacity = max(1.0, self._per_second)
        level, since = self._buckets.get(key, (capacity, now))
        level = min(capacity, level + (now - since) * self._per_second)
        allowed = level >= 1.0
        self._buckets[key] = (level - 1.0 if allowed else level, now)
        if len(self._buckets) > SWEEP_ABOVE:
            self._sweep(now, capacity)
        return allowed

    def _sweep(self, now: float, capacity: float) -> None:
        refill = capacity / self._per_second
        recent = {key: bucket for key, bucket in self._buckets.items() if now - bucket[1] < refill}
        self._buckets = recent
