"""How much a key may use: requests and tokens a minute, each by a token bucket.

A bucket holds a minute's worth and fills steadily: in any w seconds no more than capacity × (1 + w / 60) is admitted.
Tokens are reserved by what a request may take and settled by what it took. Where that was more than reserved, the
bucket is in debt and refuses until it is filled again; a request larger than the bucket takes all of it, and more.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from lmforge_api.gateway import RateLimits
from lmforge_workloads.serve.errors import Headers, RateLimited

MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Levels:
    """What is left of both buckets, and when that was so (seconds)."""

    requests: float
    tokens: float
    at: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request is admitted, what is left, and after how many seconds it would be."""

    levels: Levels
    wait_requests: float = 0.0
    wait_tokens: float = 0.0

    @property
    def admitted(self) -> bool:
        return self.wait_requests <= 0 and self.wait_tokens <= 0


def refilled(levels: Levels | None, limits: RateLimits, *, now: float) -> Levels:
    """The levels now. Nobody's buckets are full."""
    requests, tokens = _capacities(limits)
    if levels is None:
        return Levels(requests, tokens, now)
    passed = max(0.0, now - levels.at)
    return Levels(
        requests=min(requests, levels.requests + requests * passed / MINUTE),
        tokens=min(tokens, levels.tokens + tokens * passed / MINUTE),
        at=max(now, levels.at),
    )


def take(levels: Levels, limits: RateLimits, *, tokens: int) -> Verdict:
    """One request that may use so many tokens. A refused one takes nothing."""
    per_minute = _capacities(limits)
    wanted = min(float(tokens), per_minute[1])
    wait_requests = _wait(1.0 - levels.requests, per_minute[0])
    wait_tokens = _wait(wanted - levels.tokens, per_minute[1])
    if wait_requests > 0 or wait_tokens > 0:
        return Verdict(levels, wait_requests, wait_tokens)
    return Verdict(Levels(levels.requests - 1.0, levels.tokens - tokens, levels.at))


def settled(levels: Levels, limits: RateLimits, *, back: int) -> Levels:
    """So many tokens come back; fewer than none when more was used than reserved."""
    return Levels(levels.requests, min(_capacities(limits)[1], levels.tokens + back), levels.at)


def _capacities(limits: RateLimits) -> tuple[float, float]:
    return float(limits.requests_per_minute or math.inf), float(limits.tokens_per_minute or math.inf)


def _wait(missing: float, per_minute: float) -> float:
    return missing * MINUTE / per_minute if missing > 0 else 0.0


class Limiter(Protocol):
    """Where the buckets are."""

    async def take(self, key_id: str, limits: RateLimits, *, tokens: int) -> Verdict: ...

    async def settle(self, key_id: str, limits: RateLimits, *, back: int) -> None: ...


class MemoryLimiter:
    """Buckets of this process."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._levels: dict[str, Levels] = {}

    async def take(self, key_id: str, limits: RateLimits, *, tokens: int) -> Verdict:
        verdict = take(self._now(key_id, limits), limits, tokens=tokens)
        self._levels[key_id] = verdict.levels
        return verdict

    async def settle(self, key_id: str, limits: RateLimits, *, back: int) -> None:
        self._levels[key_id] = settled(self._now(key_id, limits), limits, back=back)

    def _now(self, key_id: str, limits: RateLimits) -> Levels:
        return refilled(self._levels.get(key_id), limits, now=self._clock())


def is_limited(limits: RateLimits) -> bool:
    """Whether there is anything to count."""
    return limits.requests_per_minute is not None or limits.tokens_per_minute is not None


def headers(verdict: Verdict, limits: RateLimits) -> Headers:
    """OpenAI's x-ratelimit-… of the limits that there are."""
    found: Headers = []
    levels = verdict.levels
    for kind, limit, left in (
        (b"requests", limits.requests_per_minute, levels.requests),
        (b"tokens", limits.tokens_per_minute, levels.tokens),
    ):
        if limit is not None:
            full_in = (limit - left) * MINUTE / limit
            found += [
                (b"x-ratelimit-limit-" + kind, b"%d" % limit),
                (b"x-ratelimit-remaining-" + kind, b"%d" % max(0, math.floor(left))),
                (b"x-ratelimit-reset-" + kind, b"%.3fs" % full_in),
            ]
    return found


def refusal(verdict: Verdict, limits: RateLimits, *, key_id: str) -> RateLimited:
    """What a refused caller reads."""
    kind, limit = (
        ("requests", limits.requests_per_minute)
        if verdict.wait_requests >= verdict.wait_tokens
        else ("tokens", limits.tokens_per_minute)
    )
    seconds = max(1, math.ceil(max(verdict.wait_requests, verdict.wait_tokens)))
    who = f"API key {key_id}" if key_id else "Callers without an API key together"
    return RateLimited(
        f"{who} may use {limit} {kind} a minute, which are used up: try again in {seconds} s",
        code=f"{kind}_per_minute_exceeded",
        headers=[(b"retry-after", b"%d" % seconds), *headers(verdict, limits)],
    )
