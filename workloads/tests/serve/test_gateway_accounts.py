"""What is counted by key and model, how exactly, and what stands in no log."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from engine_stub import Engine, events
from gateways import CHAT, MODEL, STREAM, gateway, until, write_keys
from prometheus_client import REGISTRY

from lmforge_workloads.common.logs import JsonFormatter

AUTH: dict[str, Any] = {"auth": {"secretName": "keys"}}
COUNTED = STREAM | {"stream_options": {"include_usage": True}}


def tokens(key: str, model: str = MODEL) -> tuple[float, float]:
    """Prompt and completion tokens of a key."""
    labels = {"key": key, "model": model}
    names = ("lmforge_gateway_prompt_tokens_total", "lmforge_gateway_completion_tokens_total")
    prompt, completion = (REGISTRY.get_sample_value(name, labels) or 0 for name in names)
    return prompt, completion


WITH_KEY = [
    ("an answer", CHAT, (5, 7)),
    ("a stream that asks for usage", COUNTED, (5, 7)),
    ("a stream that doesn't", STREAM, (5, 7)),
    ("a stream that asks for none", STREAM | {"stream_options": {"include_usage": False}}, (5, 7)),
    ("three answers in a stream", STREAM | {"n": 3}, (5, 21)),
]


@pytest.mark.parametrize(("body", "counted"), [row[1:] for row in WITH_KEY], ids=[row[0] for row in WITH_KEY])
async def test_a_keys_tokens_are_counted_exactly(
    engine: Engine, keys_path: Path, body: dict[str, Any], counted: tuple[int, int]
) -> None:
    before = tokens("exact")
    write_keys(keys_path, exact={"key": "k"})
    async with gateway(engine, gateway=AUTH, keysPath=str(keys_path)) as running:
        answer = await running.post(body, Authorization="Bearer k")
    assert tokens("exact") == (before[0] + counted[0], before[1] + counted[1])
    if "stream" in body:
        assert answer.body == b"".join(events(body, engine.manner)), "the client sees what it asked for"


async def test_embeddings_are_counted(engine: Engine, keys_path: Path) -> None:
    write_keys(keys_path, vectors={"key": "k"})
    async with gateway(engine, gateway=AUTH, keysPath=str(keys_path)) as running:
        body = {"model": MODEL, "input": ["a", "b", "c"]}
        await running.post(body, path="/v1/embeddings", Authorization="Bearer k")
    assert tokens("vectors") == (3, 0)


async def test_without_a_key_only_what_engines_tell_unasked_is_counted(engine: Engine) -> None:
    before = tokens("")
    async with gateway(engine) as running:
        for body in (CHAT, COUNTED, STREAM):
            await running.post(body)
    assert tokens("") == (before[0] + 10, before[1] + 14)


async def test_models_that_are_not_known_share_a_label(engine: Engine) -> None:
    async with gateway(engine) as running:
        for name in ("made-up-1", "made-up-2"):
            await running.post(CHAT | {"model": name})
    assert tokens("", "other")[0] >= 10
    assert tokens("", "made-up-1") == (0, 0)


async def test_metrics_are_served_on_a_port_of_their_own(engine: Engine) -> None:
    async with gateway(engine) as running:
        engine.go.clear()
        task = asyncio.create_task(running.post(CHAT))
        await until(lambda: engine.seen, what="the engine works")
        url = f"http://127.0.0.1:{running.server.house.metrics_port}/metrics"
        async with aiohttp.ClientSession() as http, http.get(url) as response:
            text = await response.text()
        engine.go.set()
        await task
    assert "lmforge_gateway_requests_in_flight 1.0" in text
    assert "lmforge_gateway_requests_held 0.0" in text


async def test_no_key_or_text_stands_in_a_log(
    engine: Engine, keys_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    write_keys(keys_path, bank={"key": "SECRETKEY"}, broken="SECRETENTRY")
    engine.will(words=("SECRET", "ANSWER"))
    body = STREAM | {"messages": [{"role": "user", "content": "SECRETPROMPT"}], "user": "SECRETUSER"}
    more: Any = {"gateway": AUTH | {"accessLog": True}, "keysPath": str(keys_path)}
    async with gateway(engine, **more) as running:
        await running.post(body, Authorization="Bearer SECRETKEY", X_Request_Id="r-1")
        await running.post(b"{SECRETBODY", Authorization="Bearer SECRETKEY")
        await running.post(body, Authorization="Bearer SECRETWRONG")
        engine.will(break_after=1)
        await running.post(body, Authorization="Bearer SECRETKEY")
    own = [record for record in caplog.records if record.name.startswith("lmforge")]
    lines = [json.loads(JsonFormatter(rank=None).format(record)) for record in own]
    assert "SECRET" not in json.dumps(lines)
    first = next(line for line in lines if line.get("request_id") == "r-1")
    assert (first["key"], first["status"], first["completion_tokens"]) == ("bank", 200, 2)
    assert [line["level"] for line in lines if line["message"] == "an answer was cut"] == ["warning"]
