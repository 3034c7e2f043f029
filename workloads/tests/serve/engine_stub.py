"""An engine's stand-in: a real HTTP server that speaks OpenAI's API as vLLM does, and errs where it is told to."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

WORDS = ("The", " capital", " of", " France", " is", " Paris", ".")


@dataclass(frozen=True)
class Manner:
    """How it answers."""

    words: Sequence[str] = WORDS
    finish: str | None = "stop"
    done: bool = True
    break_after: int | None = None  # events after which the connection is cut
    status: int = 200
    body: bytes = b""
    prompt_tokens: int = 5
    goes_down: bool = False  # after this answer no replica is ready


@dataclass
class Seen:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    raw: bytes
    body: dict[str, Any]
    cancelled: bool = False
    ended: bool = False


@dataclass
class Engine:
    """`go` lets streams pass their first event; clear it to keep them waiting."""

    port: int = 0
    manner: Manner = field(default_factory=Manner)
    seen: list[Seen] = field(default_factory=list)
    probes: int = 0
    probe_connections: list[str] = field(default_factory=list)
    ready: bool = True
    refuse: list[Manner] = field(default_factory=list)  # manners for the next requests, one each
    go: asyncio.Event = field(default_factory=asyncio.Event)
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self.go.set()
        app = web.Application(client_max_size=2**26)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/{rest:.*}", self._answer)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.05)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Connections are refused from now on."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def will(self, **manners: Any) -> None:
        """Changes its manner."""
        self.manner = replace(self.manner, **manners)

    async def _models(self, request: web.Request) -> web.Response:
        self.probes += 1
        self.probe_connections.append(request.headers.get("Connection", ""))
        return web.json_response({"data": []}) if self.ready else web.Response(status=503, text="no workers")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        seen = Seen(request.path, dict(request.headers), raw, json.loads(raw))
        self.seen.append(seen)
        manner = self.refuse.pop(0) if self.refuse else self.manner
        try:
            self.ready = self.ready and not manner.goes_down
            if manner.status != 200:
                return web.Response(status=manner.status, body=manner.body)
            if request.path == "/v1/embeddings":
                return web.json_response(_embeddings(seen.body))
            if seen.body.get("stream"):
                return await self._stream(request, seen, manner)
            await self.go.wait()
            seen.ended = True
            return web.json_response(whole(seen.body, manner))
        except asyncio.CancelledError:
            seen.cancelled = True
            raise

    async def _stream(self, request: web.Request, seen: Seen, manner: Manner) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for number, event in enumerate(events(seen.body, manner)):
            if manner.break_after == number:
                await response.write(event[:7])
                assert request.transport is not None
                request.transport.abort()
                return response
            await response.write(event)
            if number == 0:
                await self.go.wait()
            await asyncio.sleep(0)
        seen.ended = True
        await response.write_eof()
        return response


def whole(body: dict[str, Any], manner: Manner) -> dict[str, Any]:
    """An answer that doesn't stream."""
    text = "".join(manner.words)
    chat = "messages" in body
    said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    choices = [{"index": index, **said, "finish_reason": manner.finish} for index in range(body.get("n") or 1)]
    return {"id": "x", "object": "chat.completion", "created": 1, "model": body.get("model"), "choices": choices,
            "usage": _usage(manner, len(choices))}  # fmt: skip


def events(body: dict[str, Any], manner: Manner) -> list[bytes]:
    """The events of a stream, one word each, as vLLM sends them."""
    count = body.get("n") or 1
    sent = [_event(body, [_choice(body, index, word, None)]) for word in manner.words for index in range(count)]
    if manner.finish is not None:
        sent += [_event(body, [_choice(body, index, "", manner.finish)]) for index in range(count)]
    if (body.get("stream_options") or {}).get("include_usage"):
        sent.append(_event(body, [], usage=_usage(manner, count)))
    return [*sent, b"data: [DONE]\n\n"] if manner.done else sent


def _choice(body: dict[str, Any], index: int, word: str, finish: str | None) -> dict[str, Any]:
    said = {"delta": {"role": "assistant", "content": word}} if "messages" in body else {"text": word}
    return {"index": index, **said, "logprobs": None, "finish_reason": finish}


def _event(body: dict[str, Any], choices: list[dict[str, Any]], **more: Any) -> bytes:
    kind = "chat.completion.chunk" if "messages" in body else "text_completion"
    told = {"id": "x", "object": kind, "created": 1, "model": body.get("model"), "choices": choices, **more}
    return f"data: {json.dumps(told, ensure_ascii=False)}\n\n".encode()


def _usage(manner: Manner, count: int) -> dict[str, int]:
    completion = len(manner.words) * count
    return {
        "prompt_tokens": manner.prompt_tokens,
        "completion_tokens": completion,
        "total_tokens": manner.prompt_tokens + completion,
    }


def _embeddings(body: dict[str, Any]) -> dict[str, Any]:
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    data = [{"object": "embedding", "index": index, "embedding": [0.5, 0.25]} for index in range(len(texts))]
    usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
    return {"object": "list", "model": body.get("model"), "data": data, "usage": usage}


@asynccontextmanager
async def engine() -> AsyncIterator[Engine]:
    """A running one."""
    stub = Engine()
    await stub.start()
    try:
        yield stub
    finally:
        await stub.stop()


def unused_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
