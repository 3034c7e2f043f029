"""An engine that costs next to nothing: answers at once, or streams tokens at a steady pace, each with its time in it.

python -m e2e.bench.gateway_stub --tokens 40 --milliseconds 100
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import time
from typing import cast

import uvloop

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\n"
_ANSWER = (
    b'{"id":"chatcmpl-0","object":"chat.completion","created":1,"model":"bench","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"Paris."},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,'
    b'"completion_tokens":2,"total_tokens":11}}'
)
_EVENT = (
    b'data: {"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion.chunk","created":1764000000,'
    b'"model":"bench","choices":[{"index":0,"delta":{"content":"%s"},"logprobs":null,"finish_reason":%s}]}\n\n'
)


class Stub(asyncio.Protocol):
    """One connection."""

    tokens = 40
    seconds = 0.1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not separator or (length and len(body) < int(length[1])):
            return
        self._received = b""
        if b'"stream"' in body:
            head = _HEAD % b"text/event-stream" + b"transfer-encoding: chunked\r\n\r\n"
            self._transport.write(head)
            self._emit(self.tokens)
        else:
            self._transport.write(_HEAD % b"application/json" + b"content-length: %d\r\n\r\n" % len(_ANSWER) + _ANSWER)

    def _emit(self, left: int) -> None:
        if self._transport.is_closing():
            return
        if left == 0:
            self._chunk(_EVENT % (b"", b'"stop"') + b"data: [DONE]\n\n")
            self._transport.write(b"0\r\n\r\n")
            return
        self._chunk(_EVENT % (b"%d" % time.monotonic_ns(), b"null"))
        asyncio.get_running_loop().call_later(self.seconds, self._emit, left - 1)

    def _chunk(self, data: bytes) -> None:
        self._transport.write(b"%x\r\n%s\r\n" % (len(data), data))


async def serve() -> None:
    """Says its port, and serves until it is killed."""
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=40, help="of a stream")
    parser.add_argument("--milliseconds", type=float, default=100, help="between two tokens of a stream")
    options = parser.parse_args()
    Stub.tokens, Stub.seconds = options.tokens, options.milliseconds / 1000
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
