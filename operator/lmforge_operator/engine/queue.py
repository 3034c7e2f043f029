"""The one queue: keys to look at. Each is there once, worked on by one at a time, and not too often.

Three places hold a key: `ready` (due now, first come first served), `background` (a look at everything after a start,
served when nothing is ready), `delayed` (due later). A key that comes in while it is worked on waits.
The clock and the jitter are arguments, so tests own time.
"""

import asyncio
import heapq
import random
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from itertools import count
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """Keys wait here. Not thread-safe: for one event loop."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        minimum_interval: float = 0.0,
        backoff_base: float = 0.5,
        backoff_max: float = 300.0,
        jitter: Callable[[], float] = lambda: random.uniform(0.75, 1.25),
        on_wait: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._clock = clock
        self._minimum_interval = minimum_interval
        self._backoff_base = backoff_base
        self._backoff_max = backoff_max
        self._jitter = jitter
        self._on_wait = on_wait
        self._ready: OrderedDict[K, float] = OrderedDict()
        self._background: OrderedDict[K, float] = OrderedDict()
        self._delayed: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = count()
        self._active: set[K] = set()
        self._again: dict[K, float] = {}
        self._taken: dict[K, float] = {}
        self._failures: dict[K, int] = {}
        self._news = asyncio.Event()

    def add(self, key: K, *, after: float = 0.0, at_most_every: float = 0.0, background: bool = False) -> None:
        """Wants `key` looked at: now, `after` seconds, or so long after the last time that it was taken.

        The earliest wish wins. A key that is being worked on is looked at once more when that is done.
        """
        now = self._clock()
        interval = max(self._minimum_interval, at_most_every)
        due = max(now + after, self._taken[key] + interval if key in self._taken else now)
        if key in self._active:
            self._again[key] = min(due, self._again.get(key, due))
        elif key in self._ready or (background and key in self._background):
            return
        elif due > now:
            self._delay(key, due)
        else:
            self._enqueue(key, now, background=background)

    def retry(self, key: K, *, at_least: float = 0.0) -> float:
        """After a failure: wants `key` again, later each time. Gives the seconds until then."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(self._backoff_max, self._backoff_base * 2.0 ** min(failures, 32)) * self._jitter()
        delay = max(delay, at_least)
        self.add(key, after=delay)
        return delay

    def succeeded(self, key: K) -> None:
        """The next failure is the first again."""
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        """Failures in a row."""
        return self._failures.get(key, 0)

    def forget(self, key: K) -> None:
        """The object is gone: nothing about it is remembered, except wishes that came while it was worked on."""
        self._failures.pop(key, None)
        self._delayed.pop(key, None)
        if key not in self._active:
            self._taken.pop(key, None)

    async def take(self) -> K:
        """The next key that is due; `done` has to follow. What waited for later is dropped: this look sees it all."""
        while True:
            self._release_due()
            for waiting in (self._ready, self._background):
                if waiting:
                    key, since = waiting.popitem(last=False)
                    return self._start(key, since)
            await self._wait()

    def done(self, key: K, *, forget: bool = False) -> None:
        """Work on `key` is over."""
        self._active.discard(key)
        due = self._again.pop(key, None)
        if forget:
            self.forget(key)
        if due is not None:
            self.add(key, after=max(0.0, due - self._clock()))

    def depths(self) -> dict[str, int]:
        """Keys by where they are."""
        return {
            "ready": len(self._ready),
            "background": len(self._background),
            "delayed": len(self._delayed),
            "active": len(self._active),
        }

    def ready(self) -> int:
        """Keys that are due now."""
        return len(self._ready)

    def oldest(self) -> float:
        """Seconds that the first ready key has waited."""
        return self._clock() - next(iter(self._ready.values())) if self._ready else 0.0

    def __len__(self) -> int:
        return len(self._ready) + len(self._background) + len(self._delayed) + len(self._active)

    def _start(self, key: K, since: float) -> K:
        now = self._clock()
        self._on_wait(now - since)
        self._background.pop(key, None)
        self._delayed.pop(key, None)
        self._active.add(key)
        self._taken[key] = now
        return key

    def _enqueue(self, key: K, now: float, *, background: bool) -> None:
        if not background:
            self._background.pop(key, None)
        self._delayed.pop(key, None)
        (self._background if background else self._ready)[key] = now
        self._news.set()

    def _delay(self, key: K, due: float) -> None:
        if due < self._delayed.get(key, float("inf")):
            self._delayed[key] = due
            heapq.heappush(self._heap, (due, next(self._order), key))
            self._sweep()
            self._news.set()

    def _sweep(self) -> None:
        """Wishes that were dropped stay in the heap until they are due: not when they are the most of it."""
        if len(self._heap) > 2 * len(self._delayed) + 64:
            self._heap = [entry for entry in self._heap if self._delayed.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)

    def _release_due(self) -> None:
        now = self._clock()
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            if self._delayed.get(key) == due:  # else it was dropped, or moved to an earlier time
                self._enqueue(key, due, background=False)

    async def _wait(self) -> None:
        self._news.clear()
        timeout = max(0.0, self._heap[0][0] - self._clock()) if self._heap else None
        # Not wait_for: Python 3.11's loses a cancellation that comes together with news.
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._news.wait()
