"""Where conversations are kept: turns of a session, and a lock so that two requests of one session don't interleave.

A session's key is made of the API key's ID and the name that its client chose: nobody reaches another key's sessions.
(Callers without a key share them: who knows a name may use it, so it has to be one that can't be guessed.)
"""

import asyncio
import re
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from lmforge_workloads.serve.errors import BadRequest, Conflict

BUSY_SECONDS = 60.0
_NAME = re.compile(r"[A-Za-z0-9._~-]{1,128}")


class SessionStore(Protocol):
    """Memory or Redis."""

    def locked(self, session: str) -> AbstractAsyncContextManager[None]:
        """Alone with the session; `Conflict` when another request keeps it for too long."""
        ...

    async def turns(self, session: str) -> list[bytes]:
        """Oldest first."""
        ...

    async def append(self, session: str, turn: bytes) -> None: ...


def session_key(caller_id: str, name: str) -> str:
    """What a session is stored under. A name has no `:`, so no two pairs share one."""
    if not _NAME.fullmatch(name):
        raise BadRequest("X-Session-Id must be 1 to 128 letters, digits or ._~- : a random UUID is best")
    return f"{caller_id}:{name}"


def busy() -> Conflict:
    """For a request that waited for its session in vain."""
    return Conflict(
        f"Another request of this session has been running for over {BUSY_SECONDS:.0f} s: wait for its answer, or use "
        "another X-Session-Id"
    )


@dataclass
class _Session:
    turns: deque[bytes]
    used: float
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class MemorySessions:
    """Sessions of this process, the least recently used first."""

    def __init__(
        self,
        *,
        ttl: float,
        max_turns: int,
        busy_seconds: float = BUSY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ttl = ttl
        self._max_turns = max_turns
        self._busy_seconds = busy_seconds
        self._clock = clock
        self._sessions: OrderedDict[str, _Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    @asynccontextmanager
    async def locked(self, session: str) -> AsyncIterator[None]:
        entry = self._entry(session)
        entry.users += 1
        try:
            try:
                async with asyncio.timeout(self._busy_seconds):
                    await entry.lock.acquire()
            except TimeoutError:
                raise busy() from None
            try:
                yield
            finally:
                entry.lock.release()
        finally:
            entry.users -= 1
            self._sweep()

    async def turns(self, session: str) -> list[bytes]:
        return list(self._entry(session).turns)

    async def append(self, session: str, turn: bytes) -> None:
        entry = self._entry(session)
        entry.turns.append(turn)
        entry.used = self._clock()
        self._sessions.move_to_end(session)

    def _entry(self, session: str) -> _Session:
        self._sweep()
        if session not in self._sessions:
            self._sessions[session] = _Session(deque(maxlen=self._max_turns), self._clock())
        return self._sessions[session]

    def _sweep(self) -> None:
        """Forgets what has expired, but no session that a request is in."""
        now = self._clock()
        while self._sessions:
            name, oldest = next(iter(self._sessions.items()))
            if now - oldest.used < self._ttl and (oldest.turns or oldest.users):
                return
            if oldest.users:
                return
            del self._sessions[name]
