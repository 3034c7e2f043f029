"""Clients that cost little, so that the server is what is measured: one that asks again and again, many that stream.

Prints JSON. The stub writes the time into each token; CLOCK_MONOTONIC is one clock for all processes of a machine.

    python -m e2e.bench.gateway_load short  --port 8080 --requests 500
    python -m e2e.bench.gateway_load stream --port 8080 --streams 1000 --seconds 1
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from functools import partial
from typing import cast

import uvloop

_BODY = b'{"model":"bench","messages":[{"role":"user","content":"What is the capital of France?"}],"max_tokens":40%s}'
_TOKEN = re.compile(rb'"content":"(\d+)"')


def request(body: bytes, *, key: str) -> bytes:
    """As a client sends it."""
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\nuser-agent: bench\r\naccept: */*\r\n"
        f"content-type: application/json\r\nauthorization: Bearer {key}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def short(port: int, *, requests: int, key: str) -> dict[str, object]:
    """Milliseconds of each request, one after the other on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent, took = request(_BODY % b"", key=key), []
    for _ in range(requests):
        began = time.monotonic_ns()
        writer.write(sent)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        assert length is not None
        await reader.readexactly(int(length[1]))
        took.append((time.monotonic_ns() - began) / 1e6)
    writer.close()
    return {"milliseconds": took}


class Stream(asyncio.Protocol):
    """One stream; `delays` takes each token's way from the stub to here, in milliseconds."""

    def __init__(self, sent: bytes, delays: list[float], ended: asyncio.Future[float]) -> None:
        self._sent = sent
        self._delays = delays
        self._ended = ended
        self._rest = b""
        self._first: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._began = time.monotonic_ns()
        self._transport.write(self._sent)

    def data_received(self, data: bytes) -> None:
        now, data = time.monotonic_ns(), self._rest + data
        end = 0
        for token in _TOKEN.finditer(data):
            self._delays.append((now - int(token[1])) / 1e6)
            end = token.end()
        if end and self._first is None:
            self._first = (now - self._began) / 1e6
        self._rest = data[end:]
        if b"0\r\n\r\n" in self._rest[-8:]:
            assert b"[DONE]" in self._rest, self._rest
            self._transport.close()
            self._ended.set_result(self._first or 0.0)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_exception(error or ConnectionError("a stream ended early"))


async def stream(port: int, *, streams: int, seconds: float, key: str) -> dict[str, object]:
    """All at a time, begun evenly over some seconds."""
    loop, delays = asyncio.get_running_loop(), list[float]()
    sent, ends = request(_BODY % b',"stream":true', key=key), list[asyncio.Future[float]]()
    for _ in range(streams):
        ended = loop.create_future()
        ends.append(ended)
        await loop.create_connection(partial(Stream, sent, delays, ended), "127.0.0.1", port)
        await asyncio.sleep(seconds / streams)
    return {"first": await asyncio.gather(*ends), "delays": delays}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["short", "stream"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=4.0, help="over which streams begin")
    parser.add_argument("--key", default="none", help="API key")
    options = parser.parse_args()
    if options.what == "short":
        work = short(options.port, requests=options.requests, key=options.key)
    else:
        work = stream(options.port, streams=options.streams, seconds=options.seconds, key=options.key)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(work)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
