"""What the gateway counts, for Prometheus. `key` is the ID of an API key, empty without one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

REQUESTS = Counter(
    "lmforge_gateway_requests_total",
    "Requests by what was answered; 499 when the client went first.",
    ["key", "model", "endpoint", "code"],
)
PROMPT_TOKENS = Counter("lmforge_gateway_prompt_tokens_total", "Prompt tokens as engines count them.", ["key", "model"])
COMPLETION_TOKENS = Counter(
    "lmforge_gateway_completion_tokens_total", "Generated tokens as engines count them.", ["key", "model"]
)
UNCOUNTED = Counter(
    "lmforge_gateway_uncounted_requests_total",
    "Answers whose tokens no engine told: streams that were cut, and those of callers without a key.",
    ["key", "model"],
)
CUT_STREAMS = Counter(
    "lmforge_gateway_cut_streams_total", "Streams that ended with an error, since the engine's broke off.", ["model"]
)
LIMITED = Counter("lmforge_gateway_rate_limited_total", "Requests refused by a rate limit.", ["key"])
FIRST_TOKEN = Histogram(
    "lmforge_gateway_time_to_first_token_seconds",
    "From a stream's request to its first event, waiting for a replica included.",
    ["model"],
    buckets=_SECONDS,
)
DURATION = Histogram(
    "lmforge_gateway_request_duration_seconds",
    "From a request to the end of its answer.",
    ["endpoint"],
    buckets=_SECONDS,
)
IN_FLIGHT = Gauge(
    "lmforge_gateway_requests_in_flight", "Requests that were let in and are not answered in full, waiting ones too."
)
HELD = Gauge("lmforge_gateway_requests_held", "Requests that wait for a replica.")
DRAINING = Gauge("lmforge_gateway_draining", "1 after SIGTERM.")


@asynccontextmanager
async def served(host: str, port: int) -> AsyncIterator[int]:
    """GET /metrics on a port of its own, which it tells: labels name keys, and the API's port may be open to anyone."""
    app = web.Application()
    app.router.add_get("/metrics", _metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def _metrics(_: web.Request) -> web.Response:
    text = await asyncio.to_thread(generate_latest)  # tens of milliseconds with a thousand keys
    return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})
