"""The buckets of `limits` in Redis, shared by all pods of a gateway: the same arithmetic as one atomic script.

Redis' own clock counts, so the pods' clocks need not agree. Without an answer from Redis the pod counts for itself:
limits then hold for each pod, and requests go on.
"""

import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from lmforge_api.gateway import RateLimits
from lmforge_workloads.serve.gateway.limits import Levels, MemoryLimiter, Verdict

log = logging.getLogger(__name__)

_SILENCE = 60.0

# KEYS[1] a hash of requests, tokens, at. ARGV: capacities (0 for no limit), request or not, tokens, now (empty: ask).
# Answers: wait for requests, wait for tokens, what is left of both. As text: numbers would be cut to integers.
_SCRIPT = """
local now = tonumber(ARGV[5])
if not now then local t = redis.call('TIME'); now = tonumber(t[1]) + tonumber(t[2]) / 1e6 end
local stored = redis.call('HMGET', KEYS[1], 'requests', 'tokens', 'at')
local at = tonumber(stored[3] or now)
local passed = math.max(0, now - at)
local function level(stored, capacity)
  if capacity == 0 then return math.huge end
  if not stored then return capacity end
  return math.min(capacity, tonumber(stored) + capacity * passed / 60)
end
local per_minute = {tonumber(ARGV[1]), tonumber(ARGV[2])}
local requests, tokens = level(stored[1], per_minute[1]), level(stored[2], per_minute[2])
local asks, amount = ARGV[3] == '1', tonumber(ARGV[4])
local wait_requests, wait_tokens = 0, 0
if asks then
  local wanted = amount
  if per_minute[2] > 0 then wanted = math.min(amount, per_minute[2]) end
  if requests < 1 then wait_requests = (1 - requests) * 60 / per_minute[1] end
  if tokens < wanted then wait_tokens = (wanted - tokens) * 60 / per_minute[2] end
  if wait_requests == 0 and wait_tokens == 0 then requests = requests - 1; tokens = tokens - amount end
elseif per_minute[2] > 0 then
  tokens = math.min(per_minute[2], tokens - amount)
end
local function text(number) return string.format('%.6f', number) end
local full = 0
if per_minute[1] > 0 then
  redis.call('HSET', KEYS[1], 'requests', text(requests)); full = (per_minute[1] - requests) * 60 / per_minute[1]
end
if per_minute[2] > 0 then
  redis.call('HSET', KEYS[1], 'tokens', text(tokens))
  full = math.max(full, (per_minute[2] - tokens) * 60 / per_minute[2])
end
redis.call('HSET', KEYS[1], 'at', text(math.max(now, at)))
redis.call('EXPIRE', KEYS[1], math.ceil(full) + 1)
return {text(wait_requests), text(wait_tokens), text(requests), text(tokens)}
"""


class RedisLimiter:
    """Buckets under `prefix`. `clock` is for tests; Redis' own is used without it."""

    def __init__(self, redis: Redis, *, prefix: str, clock: Callable[[], float] | None = None) -> None:
        self._script = redis.register_script(_SCRIPT)
        self._prefix = prefix
        self._clock = clock
        self._own = MemoryLimiter()
        self._complained = -_SILENCE

    async def take(self, key_id: str, limits: RateLimits, *, tokens: int) -> Verdict:
        try:
            answer = await self._run(key_id, limits, request=True, tokens=tokens)
        except (RedisError, OSError) as error:
            self._complain(error)
            return await self._own.take(key_id, limits, tokens=tokens)
        wait_requests, wait_tokens, requests, left = (float(text) for text in answer)
        return Verdict(Levels(requests, left, math.nan), wait_requests, wait_tokens)

    async def settle(self, key_id: str, limits: RateLimits, *, back: int) -> None:
        try:
            await self._run(key_id, limits, request=False, tokens=-back)
        except (RedisError, OSError) as error:
            self._complain(error)
            await self._own.settle(key_id, limits, back=back)

    async def _run(self, key_id: str, limits: RateLimits, *, request: bool, tokens: int) -> list[bytes]:
        arguments = [
            limits.requests_per_minute or 0,
            limits.tokens_per_minute or 0,
            int(request),
            tokens,
            "" if self._clock is None else self._clock(),
        ]
        running = self._script(keys=[f"{self._prefix}limits:{key_id}"], args=arguments)
        return cast(list[bytes], await cast(Awaitable[object], running))

    def _complain(self, error: Exception) -> None:
        if time.monotonic() - self._complained >= _SILENCE:
            self._complained = time.monotonic()
            log.warning("Redis doesn't answer, rate limits hold for this pod alone: %s", error)
