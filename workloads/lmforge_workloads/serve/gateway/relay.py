"""How an engine's answer comes back: a stream event by event, anything else as a whole.

A stream ends with [DONE] only when each of its answers told why it ended. Where the connection broke, or the engine
gave up (vLLM says [DONE] then too), an error event stands in its place: what was cut must not look complete.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import aiohttp
import orjson

from lmforge_workloads.serve.errors import BadGateway, Headers, UpstreamTimeout, error_body
from lmforge_workloads.serve.gateway.body import Prepared
from lmforge_workloads.serve.gateway.conversation import StreamedAnswer, answer_of
from lmforge_workloads.serve.gateway.endpoints import Fields
from lmforge_workloads.serve.gateway.exchange import Exchange
from lmforge_workloads.serve.gateway.sse import EventSplitter, StreamMeter, Usage, is_cut, model_in, usage_in

Keep = Callable[[Fields], Awaitable[None]]

_OWN = ("content-length", "date", "server", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")
_NOT_PASSED_ON = frozenset(_OWN)
_UNBUFFERED: Headers = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]  # nginx buffers otherwise


@dataclass
class Outcome:
    """What is known of an answer, filled in while it comes."""

    model: str | None = None
    usage: Usage | None = None
    events: int = 0
    is_stream: bool = False
    is_answered: bool = False
    is_refused: bool = False
    is_cut: bool = False

    def tokens(self, *, reserved: int, prompt_estimate: int) -> int:
        """What it took. An event is about a token; where a client went before there was an answer, nobody knows."""
        if self.usage is not None:
            return self.usage.total
        if self.is_refused:
            return 0
        return prompt_estimate + self.events if self.is_answered else reserved


async def relay(
    exchange: Exchange,
    response: aiohttp.ClientResponse,
    prepared: Prepared,
    outcome: Outcome,
    *,
    keep: Keep | None = None,
) -> None:
    """Passes the answer on. `keep` gets a whole answer's message before the client sees its end."""
    async with response:
        if response.status == 200 and response.content_type == "text/event-stream":
            await _stream(exchange, response, prepared, outcome, keep)
        else:
            await _whole(exchange, response, outcome, keep)


async def _whole(exchange: Exchange, response: aiohttp.ClientResponse, outcome: Outcome, keep: Keep | None) -> None:
    try:
        body = await response.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise BadGateway(f"The engine broke off in the middle of its answer ({type(error).__name__})") from None
    headers = _passed_on(response.headers)
    if response.status == 200:
        outcome.is_answered, outcome.usage, outcome.model = True, usage_in(body), model_in(body)
        outcome.is_cut = is_cut(body)
        if outcome.is_cut:
            raise BadGateway("The engine gave up before the answer's end: ask again", code="answer_cut")
        if keep is not None and (message := answer_of(body)) is not None:
            await keep(message)
    else:
        outcome.is_refused = True
        body, headers = _as_openai_says(response.status, body, headers)
    await exchange.answer(response.status, headers, body)


async def _stream(
    exchange: Exchange,
    response: aiohttp.ClientResponse,
    prepared: Prepared,
    outcome: Outcome,
    keep: Keep | None,
) -> None:
    splitter = EventSplitter()
    meter = StreamMeter(choices=prepared.choices, strip_usage=prepared.strip_usage)
    answer = StreamedAnswer() if keep is not None else None
    outcome.is_answered = outcome.is_stream = True
    await exchange.start(200, [*_passed_on(response.headers), *_UNBUFFERED])
    why = "gave up"
    try:
        async for chunk in response.content.iter_any():
            block = splitter.feed(chunk)
            if not block:
                continue
            if answer is not None:
                answer.see(block)
            if passed := meter.see(block):
                await exchange.write(passed)
    except TimeoutError:
        why = "fell silent"
    except aiohttp.ClientError:
        why = "broke off"
    finally:
        outcome.events, outcome.model, outcome.usage = meter.events, meter.model, meter.usage
    outcome.is_cut = not meter.is_whole or why != "gave up"
    if outcome.is_cut:
        kind = UpstreamTimeout if why == "fell silent" else BadGateway
        raise kind(f"The engine {why} before the answer's end: what came is not complete", code="stream_cut")
    if keep is not None and answer is not None:
        await keep(answer.message())
    await exchange.end(meter.done + splitter.rest)


def _passed_on(headers: Mapping[str, str]) -> Headers:
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in headers.items()
        if name.lower() not in _NOT_PASSED_ON
    ]


def _as_openai_says(status: int, body: bytes, headers: Headers) -> tuple[bytes, Headers]:
    """An error in OpenAI's shape; one that has it already stays as it is."""
    try:
        found = orjson.loads(body)
    except ValueError:
        found = body.decode(errors="replace").strip()[:500]
    if isinstance(found, dict) and isinstance(found.get("error"), dict):
        return body, headers
    told = (found.get("message") or found.get("detail") or found.get("error")) if isinstance(found, dict) else found
    kind = "invalid_request_error" if status < 500 else "server_error"
    message = told if isinstance(told, str) and told else f"The engine answered {status}"
    kept = [(name, value) for name, value in headers if name != b"content-type"]
    return (
        error_body(message, type_=kind, code="upstream_error"),
        [*kept, (b"content-type", b"application/json")],
    )
