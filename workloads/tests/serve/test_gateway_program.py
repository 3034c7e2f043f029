"""The program itself: its command line, its drain, its configuration as a CRD."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from engine_stub import Engine, events
from gateways import CHAT, STREAM, configuration, until

from lmforge_api.gateway import ApiKey, Gateway
from lmforge_api.schema import structural

Lines = list[dict[str, Any]]


@asynccontextmanager
async def program(engine: Engine, tmp_path: Path, **more: Any) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """`python -m lmforge_workloads.serve.gateway`, and its URL."""
    config = tmp_path / "gateway.json"
    config.write_text(configuration(engine, **more).model_dump_json(by_alias=True))
    command = [sys.executable, "-m", "lmforge_workloads.serve.gateway", "--config", str(config)]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    try:
        async with asyncio.timeout(20):
            while (line := json.loads(await process.stderr.readline()))["message"] != "listening":
                pass
        yield process, f"http://127.0.0.1:{line['port']}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ready(http: aiohttp.ClientSession, url: str) -> int:
    async with http.get(f"{url}/readyz") as response:
        return response.status


async def test_a_drain_lets_streams_come_to_their_end(engine: Engine, tmp_path: Path) -> None:
    more: Any = {"unreadySeconds": 0.5, "drainSeconds": 10}
    async with program(engine, tmp_path, **more) as (process, url), aiohttp.ClientSession() as http:
        assert await ready(http, url) == 200
        engine.go.clear()
        async with http.post(f"{url}/v1/chat/completions", json=STREAM) as stream:
            first = await stream.content.readuntil(b"\n\n")
            process.send_signal(signal.SIGTERM)

            async def unready() -> bool:
                return await ready(http, url) == 503

            await until(unready, what="readiness fails")
            late = asyncio.create_task(_post(url))
            await until(lambda: len(engine.seen) == 2, what="a request is taken while others don't know yet")
            await until(lambda: _refused(url), what="connections are refused")
            engine.go.set()
            assert first + await stream.read() == b"".join(events(STREAM, engine.manner))
        assert await late == 200
        async with asyncio.timeout(5):
            assert await process.wait() == 0


async def _post(url: str) -> int:
    async with aiohttp.ClientSession() as http, http.post(f"{url}/v1/chat/completions", json=CHAT) as response:
        await response.read()
        return response.status


async def _refused(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as http, http.get(f"{url}/healthz"):
            return False
    except aiohttp.ClientConnectorError:
        return True


async def test_a_stream_that_outlasts_the_drain_ends_with_an_error(engine: Engine, tmp_path: Path) -> None:
    async with program(engine, tmp_path, drainSeconds=1) as (process, url), aiohttp.ClientSession() as http:
        engine.go.clear()
        async with http.post(f"{url}/v1/chat/completions", json=STREAM) as stream:
            await stream.content.readuntil(b"\n\n")
            process.send_signal(signal.SIGTERM)
            rest = await stream.read()
        assert rest.startswith(b'data: {"error":')
        assert b"The gateway was stopped" in rest
        async with asyncio.timeout(5):
            assert await process.wait() == 0


def test_the_users_part_can_stand_in_a_crd() -> None:
    schema: Any = structural(Gateway)
    assert schema["properties"]["promptTemplates"]["x-kubernetes-list-map-keys"] == ["name"]
    assert structural(ApiKey)["required"] == ["hash"]


def test_an_upstream_is_a_base_url() -> None:
    for url in ("http://router:80", "https://a.b/c"):
        configuration(url)
    for url in ("router:80", "http://router/", "ftp://router"):
        with pytest.raises(ValueError, match=r"upstream\.url"):
            configuration(url)
