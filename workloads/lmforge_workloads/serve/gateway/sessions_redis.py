"""Sessions in Redis: a list of turns each, which expires, and a lock that its holder renews."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar, cast

from redis.asyncio import Redis
from redis.asyncio.lock import Lock
from redis.exceptions import LockError, RedisError

from lmforge_workloads.serve.errors import Unavailable
from lmforge_workloads.serve.gateway.sessions import BUSY_SECONDS, busy

T = TypeVar("T")

_LOCK_SECONDS = 15.0  # a lock outlives a killed gateway by so long
_RETRY_SECONDS = 0.02


class RedisSessions:
    """Sessions under `prefix`."""

    def __init__(
        self, redis: Redis, *, prefix: str, ttl: int, max_turns: int, busy_seconds: float = BUSY_SECONDS
    ) -> None:
        self._redis = redis
        self._prefix = prefix
        self._ttl = ttl
        self._max_turns = max_turns
        self._busy_seconds = busy_seconds

    @asynccontextmanager
    async def locked(self, session: str) -> AsyncIterator[None]:
        lock = Lock(
            self._redis,
            f"{self._prefix}lock:{session}",
            timeout=_LOCK_SECONDS,
            sleep=_RETRY_SECONDS,
            blocking_timeout=self._busy_seconds,
            thread_local=False,
        )
        if not await _answered(lock.acquire()):
            raise busy()
        renewal = asyncio.create_task(_renew(lock))
        try:
            yield
        finally:
            renewal.cancel()
            with suppress(LockError, RedisError, OSError):  # it is gone, or will expire
                await lock.release()

    async def turns(self, session: str) -> list[bytes]:
        return await _answered(cast(Awaitable[list[bytes]], self._redis.lrange(self._key(session), 0, -1)))

    async def append(self, session: str, turn: bytes) -> None:
        key = self._key(session)
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.rpush(key, turn)
            pipeline.ltrim(key, -self._max_turns, -1)
            pipeline.expire(key, self._ttl)
            await _answered(pipeline.execute())

    def _key(self, session: str) -> str:
        return f"{self._prefix}session:{session}"


async def _renew(lock: Lock) -> None:
    while True:
        await asyncio.sleep(_LOCK_SECONDS / 3)
        with suppress(LockError, RedisError, OSError):
            await lock.reacquire()


async def _answered(running: Awaitable[T]) -> T:
    """What Redis says, or the error that a client understands: an answer without its history would be a wrong one."""
    try:
        return await running
    except (RedisError, OSError):
        raise Unavailable(
            "The session can't be read or kept, since its Redis doesn't answer: try again, or leave X-Session-Id out",
            code="session_store_unavailable",
        ) from None
