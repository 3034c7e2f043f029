"""One request and its answer, as ASGI has them."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from lmforge_workloads.serve.errors import ApiError, Headers, TooLarge, error_event

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON: Headers = [(b"content-type", b"application/json")]


class ClientGone(Exception):
    """The client closed its connection before the end of its answer."""


class Exchange:
    """Reads the request, writes the answer, and knows how far that is."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers: Headers = scope["headers"]
        self.began = time.monotonic()
        self.first_byte: float | None = None
        self.status = 0
        self.finished = False
        self.answer_headers: Headers = []
        self._receive = receive
        self._send = send

    def header(self, name: bytes) -> str | None:
        """The first header of that name (in lower case)."""
        return next((value.decode("latin-1") for found, value in self.headers if found == name), None)

    async def body(self, *, limit: int) -> bytes:
        """The whole request body."""
        declared = self.header(b"content-length") or "0"
        size = int(declared) if declared.isdigit() else 0
        chunks, got = [], 0
        more = size <= limit
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunks.append(message.get("body", b""))
            got += len(chunks[-1])
            size = max(size, got)
            more = message.get("more_body", False) and size <= limit
        if size > limit:
            raise TooLarge(f"The body is longer than {limit} bytes: send less", headers=[(b"connection", b"close")])
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def start(self, status: int, headers: Headers) -> None:
        """Status and headers; those that were noted in `answer_headers` come too."""
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, *self.answer_headers]})

    async def write(self, data: bytes) -> None:
        """A part of a stream."""
        if self.first_byte is None:
            self.first_byte = time.monotonic()
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        """The last part."""
        self.finished = True
        await self._send({"type": "http.response.body", "body": data})

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """An answer as a whole."""
        await self.start(status, [*headers, (b"content-length", b"%d" % len(body))])
        await self.end(body)

    async def fail(self, error: ApiError) -> None:
        """An error as OpenAI's clients read it: as the answer, or as the event that ends a stream."""
        if self.finished:
            return
        if self.status:
            await self.end(error_event(error))
        else:
            await self.answer(error.status, [*JSON, *error.headers], error.body())

    @asynccontextmanager
    async def while_client_stays(self) -> AsyncIterator[None]:
        """Cancels what is inside, and raises `ClientGone`, when the client goes before the answer is finished."""
        inside = asyncio.current_task()
        assert inside is not None
        gone = False

        async def watch() -> None:
            nonlocal gone
            while (await self._receive())["type"] != "http.disconnect":
                pass
            if not self.finished:
                gone = True
                inside.cancel()

        watcher = asyncio.create_task(watch())
        try:
            yield
        except asyncio.CancelledError:
            if gone and inside.uncancel() == 0:
                raise ClientGone from None
            raise
        finally:
            watcher.cancel()
