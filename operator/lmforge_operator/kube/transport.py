"""HTTP to the API server: one connection pool, orjson, our errors, and a count of every request.

A Kubernetes client library costs two to four times the CPU of this on the same requests, and at a hundred objects
a second the client is what the operator's time goes to.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson
from yarl import URL

from lmforge_operator import metrics
from lmforge_operator.errors import Transient, from_status
from lmforge_operator.kube.connection import Connection

HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "lmforge-operator"}


class Transport:
    """Sends requests. Errors come as `ApiError`s; nothing is tried again here: the queue's backoff does that."""

    def __init__(self, connection: Connection, *, pool: int = 16, timeout_seconds: float = 15.0) -> None:
        self.connection = connection
        self._authorization = connection.authorization()
        self._pool = pool
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._session: aiohttp.ClientSession | None = None
        self._streams: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = self._new_session(self._pool)
        self._streams = self._new_session(0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for session in (self._session, self._streams):
            if session is not None:
                await session.close()

    def _new_session(self, limit: int) -> aiohttp.ClientSession:
        context = self.connection.ssl
        connector = aiohttp.TCPConnector(
            limit=limit, ssl=context if context is not None else True, keepalive_timeout=60
        )
        jar = aiohttp.DummyCookieJar()
        return aiohttp.ClientSession(connector=connector, cookie_jar=jar, headers=HEADERS, auto_decompress=False)

    async def send(
        self,
        verb: str,
        path: str,
        *,
        body: Any = None,
        content_type: str = "application/json",
        query: str = "",
        accept: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Any:
        """One request and its JSON answer. Raises: ApiError."""
        assert self._session is not None, "the transport is not open"
        headers = dict(self._authorization.headers())
        if body is not None:
            headers["Content-Type"] = content_type
        if accept is not None:
            headers["Accept"] = accept
        try:
            async with self._session.request(
                verb,
                self._url(path, query),
                data=None if body is None else orjson.dumps(body),
                headers=headers,
                timeout=self._timeout if timeout_seconds is None else aiohttp.ClientTimeout(total=timeout_seconds),
                allow_redirects=False,
            ) as response:
                return _decoded(response.status, await response.read(), request=f"{verb} {path}")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _broken(f"{verb} {path}", verb, error) from error

    @asynccontextmanager
    async def stream(
        self, path: str, *, query: str, accept: str | None, timeout_seconds: float
    ) -> AsyncIterator[AsyncIterator[Any]]:
        """A watch: yields decoded lines until the server ends it. Silence longer than `timeout_seconds` is an error."""
        assert self._streams is not None, "the transport is not open"
        headers = dict(self._authorization.headers()) | ({"Accept": accept} if accept else {})
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=timeout_seconds)
        try:
            async with self._streams.get(self._url(path, query), headers=headers, timeout=timeout) as response:
                if response.status != 200:
                    _decoded(response.status, await response.read(), request=f"WATCH {path}")
                metrics.count_request("WATCH", response.status)
                yield _lines(response.content)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _broken(f"WATCH {path}", "WATCH", error) from error

    def _url(self, path: str, query: str) -> URL:
        return URL(f"{self.connection.server}{path}?{query}" if query else self.connection.server + path, encoded=True)


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[Any]:
    rest = b""
    async for chunk in content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield orjson.loads(line)


def _decoded(status: int, data: bytes, *, request: str) -> Any:
    metrics.count_request(request.partition(" ")[0], status)
    if status < 300:
        return orjson.loads(data)
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        body = {"message": data[:500].decode(errors="replace")}
    raise from_status(status, body if isinstance(body, dict) else {}, request=request)


def _broken(request: str, verb: str, error: Exception) -> Transient:
    metrics.count_request(verb, 0)
    return Transient(f"{request}: {type(error).__name__}: {error}".rstrip(": "), reason="Unreachable")
