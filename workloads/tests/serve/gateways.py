"""A running gateway for tests: the real program's server on a real port, in this process."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from engine_stub import Engine
from openai import AsyncOpenAI

from lmforge_api.gateway import key_hash
from lmforge_api.gateway_run import GatewayRun
from lmforge_workloads.serve.gateway.server import Server

MODEL = "smollm2"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "What is the capital of France?"}]}
STREAM = CHAT | {"stream": True}


@dataclass
class Running:
    """`http` is for raw requests, `client()` for the official client."""

    server: Server
    http: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    def client(self, key: str = "none", **more: Any) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, **more)

    async def post(self, body: object, path: str = "/v1/chat/completions", **headers: str) -> "Answer":
        """Sends it, and reads the answer to its end."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named.setdefault("Content-Type", "application/json")
        async with self.http.post(self.url + path, data=data, headers=named) as response:
            return Answer(response.status, {k.lower(): v for k, v in response.headers.items()}, await response.read())

    async def get(self, path: str, **headers: str) -> "Answer":
        async with self.http.get(self.url + path, headers=headers) as response:
            return Answer(response.status, {k.lower(): v for k, v in response.headers.items()}, await response.read())


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]


def configuration(engine: Engine | str, **more: Any) -> GatewayRun:
    """Of a gateway before this engine, on free ports; `more` in wire names."""
    return GatewayRun.model_validate(
        {
            "namespace": "demo",
            "name": "helpdesk",
            "model": MODEL,
            "upstream": {"url": engine if isinstance(engine, str) else engine.url},
            "listen": {"host": "127.0.0.1", "port": 0, "metricsPort": 0},
            "unreadySeconds": 0,
            **more,
        }
    )


@asynccontextmanager
async def gateway(engine: Engine | str, **more: Any) -> AsyncIterator[Running]:
    """A running one."""
    server = Server(configuration(engine, **more), pod="gateway-0")
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup()
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as http:
            yield Running(server, http)
    finally:  # as its own shutdown does, but for the tenth of a second that it sleeps
        for listener in server.servers:
            listener.close()
        for connection in list(server.server_state.connections):
            connection.shutdown()
        await server.lifespan.shutdown()


def write_keys(directory: Path, **entries: Any) -> Path:
    """Key files as a Secret has them; each entry names its `key`, or is text as it is."""
    directory.mkdir(exist_ok=True)
    for key_id, entry in entries.items():
        text = entry if isinstance(entry, str) else json.dumps({"hash": key_hash(entry.pop("key")), **entry})
        (directory / key_id).write_text(text)
    return directory


async def until(condition: Callable[[], object | Awaitable[object]], *, what: str, seconds: float = 5) -> None:
    """Waits for it."""
    ends = time.monotonic() + seconds
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        assert time.monotonic() < ends, f"waited {seconds} s in vain: {what}"
        await asyncio.sleep(0.01)
