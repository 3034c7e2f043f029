"""What engines measure, in the words that every engine's metrics are translated to, and over some time.

The book is in memory only: after a restart of the operator the engines say it again within seconds, and nothing is
scaled down until as much has been seen as the delay asks for.
"""

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

WINDOW = timedelta(seconds=30)
FRESH = timedelta(seconds=10)
"""A measurement that is older says nothing about now."""


@dataclass(frozen=True)
class EngineLoad:
    """One replica's counters and gauges at a moment."""

    waiting: int = 0
    running: int = 0
    kv_cache_use: float = 0.0
    """Share in use, 0 to 1."""
    tokens: float = 0.0
    """Generated since its start."""
    answered: float = 0.0
    """Requests since its start."""
    first_token_seconds: float = 0.0
    """Sum over all requests since its start."""
    first_tokens: float = 0.0


@dataclass(frozen=True)
class Load:
    """All replicas together."""

    measured: int = 0
    """Replicas that have been measured just now."""
    waiting: int = 0
    running: int = 0
    kv_cache_use: float = 0.0
    """Sum of the shares."""
    active: bool = False
    """Whether any request was there since the measurement before."""
    tokens_per_second: float | None = None
    first_token_seconds: float | None = None
    """Mean over the window, None without a request."""


@dataclass(frozen=True)
class _Sample:
    time: datetime
    load: EngineLoad


class LoadBook:
    """Measurements by the service's UID and the replica's name."""

    def __init__(self) -> None:
        self._services: dict[str, dict[str, deque[_Sample]]] = {}

    def record(self, uid: str, replica: str, load: EngineLoad, *, now: datetime) -> None:
        """Keeps a measurement; what is older than the window is forgotten, except the newest of that."""
        samples = self._services.setdefault(uid, {}).setdefault(replica, deque())
        if samples and _restarted(samples[-1].load, load):
            samples.clear()
        samples.append(_Sample(now, load))
        while len(samples) > 2 and samples[1].time <= now - WINDOW:
            samples.popleft()

    def total(self, uid: str, replicas: Collection[str], *, now: datetime) -> Load:
        """These replicas together; the others are forgotten."""
        kept = {name: found for name, found in self._services.get(uid, {}).items() if name in replicas}
        if kept:
            self._services[uid] = kept
        else:
            self._services.pop(uid, None)
        return _total({name: found for name, found in kept.items() if found[-1].time >= now - FRESH})

    def forget(self, uid: str) -> None:
        """The service is gone."""
        self._services.pop(uid, None)


def _total(samples: Mapping[str, deque[_Sample]]) -> Load:
    newest = [found[-1].load for found in samples.values()]
    requests = sum(found[-1].load.first_tokens - found[0].load.first_tokens for found in samples.values())
    seconds = sum(found[-1].load.first_token_seconds - found[0].load.first_token_seconds for found in samples.values())
    rates = [_rate(found) for found in samples.values() if len(found) > 1]
    return Load(
        measured=len(newest),
        waiting=sum(load.waiting for load in newest),
        running=sum(load.running for load in newest),
        kv_cache_use=sum(load.kv_cache_use for load in newest),
        active=any(_active(found) for found in samples.values()),
        tokens_per_second=sum(rates) if rates else None,
        first_token_seconds=seconds / requests if requests > 0 else None,
    )


def _rate(samples: deque[_Sample]) -> float:
    first, last = samples[0], samples[-1]
    seconds = (last.time - first.time).total_seconds()
    return (last.load.tokens - first.load.tokens) / seconds if seconds > 0 else 0.0


def _active(samples: deque[_Sample]) -> bool:
    last = samples[-1].load
    before = samples[-2].load if len(samples) > 1 else last
    return last.waiting + last.running > 0 or last.answered > before.answered


def _restarted(before: EngineLoad, after: EngineLoad) -> bool:
    return after.tokens < before.tokens or after.answered < before.answered
