"""Streams that break, clients that go, and what the gateway knows of each."""

import asyncio

import aiohttp
import pytest
from engine_stub import Engine, Manner, events
from gateways import CHAT, STREAM, gateway, until
from openai import APIError
from prometheus_client import REGISTRY

ALL = events(STREAM, Manner())

CUT = [
    ("the connection breaks", {"break_after": 3}, "broke off", 3),
    ("the connection breaks before the first event", {"break_after": 0}, "broke off", 0),
    ("vLLM aborts, and says [DONE]", {"finish": None, "words": Manner().words[:4]}, "gave up", 4),
    ("vLLM aborts with a reason", {"finish": "abort"}, "gave up", 8),
    ("the stream merely ends", {"finish": None, "done": False}, "gave up", 7),
]


@pytest.mark.parametrize(("manner", "why", "whole"), [row[1:] for row in CUT], ids=[row[0] for row in CUT])
async def test_a_cut_stream_ends_with_an_error_and_never_with_done(
    engine: Engine, manner: dict[str, object], why: str, whole: int
) -> None:
    engine.will(**manner)
    async with gateway(engine) as running:
        answer = await running.post(STREAM)
    sent = answer.body.split(b"\n\n")
    assert sent[-1] == b""
    assert len(sent) == whole + 2
    assert b"[DONE]" not in answer.body
    assert sent[-2].startswith(b'data: {"error":')
    assert why.encode() in sent[-2]


async def test_the_official_client_raises_where_a_stream_was_cut(engine: Engine) -> None:
    engine.will(break_after=3)
    async with gateway(engine) as running, running.client() as client:
        stream = await client.chat.completions.create(**STREAM)
        with pytest.raises(APIError, match="broke off before the answer's end"):
            _ = [chunk async for chunk in stream]


async def test_a_stream_whose_engine_says_no_done_is_whole_by_its_finish_reason(engine: Engine) -> None:
    engine.will(done=False)
    async with gateway(engine) as running:
        assert (await running.post(STREAM)).body == b"".join(ALL[:-1])


async def test_of_three_answers_one_without_its_end_is_a_cut_stream(engine: Engine) -> None:
    engine.will(break_after=len(events(STREAM | {"n": 3}, Manner())) - 2)
    async with gateway(engine) as running:
        assert b"stream_cut" in (await running.post(STREAM | {"n": 3})).body


async def test_an_answer_that_was_aborted_is_an_error(engine: Engine) -> None:
    engine.will(finish="abort")
    async with gateway(engine) as running:
        answer = await running.post(CHAT)
    assert (answer.status, answer.error["code"]) == (502, "answer_cut")


async def test_a_silent_stream_ends_with_an_error(engine: Engine) -> None:
    upstream = {"url": engine.url, "readTimeoutSeconds": 0.2}
    engine.go.clear()
    async with gateway(engine, upstream=upstream) as running:
        answer = await running.post(STREAM)
        silent = await running.post(CHAT)
    assert b"fell silent" in answer.body
    assert (silent.status, silent.error["code"]) == (504, "upstream_timeout")


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "stream"])
async def test_a_client_that_goes_stops_the_engine(engine: Engine, body: dict[str, object]) -> None:
    engine.go.clear()
    async with gateway(engine) as running:
        request = asyncio.create_task(running.post(body))
        await until(lambda: bool(engine.seen), what="the engine has the request")
        request.cancel()
        await until(lambda: engine.seen[0].cancelled, what="the engine's request is cancelled")
        engine.go.set()
        assert (await running.post(CHAT)).status == 200
        codes = REGISTRY.get_sample_value(
            "lmforge_gateway_requests_total", {"key": "", "model": "", "endpoint": "chat", "code": "499"}
        )
    assert codes or body is STREAM


async def test_a_connection_that_ended_while_idle_costs_no_request(engine: Engine) -> None:
    async with gateway(engine) as running:
        assert (await running.post(CHAT)).status == 200
        await engine.stop()
        await engine.start()
        assert (await running.post(CHAT)).status == 200


async def test_a_request_that_an_engine_drops_unanswered_is_sent_again() -> None:
    connections = 0

    async def drops_two(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        head = await reader.readuntil(b"\r\n\r\n")
        connections += not head.startswith(b"GET")
        if connections == 3 or head.startswith(b"GET"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
        writer.close()

    server = await asyncio.start_server(drops_two, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, gateway(f"http://127.0.0.1:{port}") as running:
        assert (await running.post(CHAT)).body == b"{}"
    assert connections == 3


async def test_a_request_that_every_engine_drops_is_given_up() -> None:
    connections = 0

    async def drops(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(drops, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, gateway(f"http://127.0.0.1:{port}") as running:
        answer = await running.post(CHAT)
    assert (answer.status, answer.error["code"]) == (502, "upstream_error")
    assert connections == 4


@pytest.mark.parametrize("status", [502, 503])
async def test_a_refusal_is_tried_again(engine: Engine, status: int) -> None:
    engine.refuse = [Manner(status=status)] * 2
    async with gateway(engine) as running:
        assert (await running.post(CHAT)).status == 200
    assert len(engine.seen) == 3


async def test_an_error_of_an_engine_that_is_well_is_passed_on_at_once(engine: Engine) -> None:
    engine.refuse = [Manner(status=500, body=b"a bug")]
    async with gateway(engine) as running:
        answer = await running.post(CHAT)
    assert (answer.status, answer.error["message"]) == (500, "a bug")
    assert len(engine.seen) == 1


async def test_requests_on_one_connection_are_told_apart(engine: Engine) -> None:
    async with gateway(engine) as running:
        connector = aiohttp.TCPConnector(limit=1)
        async with aiohttp.ClientSession(connector=connector) as http:
            for words in (("a",), ("b", "c"), ("d",)):
                engine.will(words=words)
                async with http.post(f"{running.url}/v1/chat/completions", json=STREAM) as response:
                    assert await response.read() == b"".join(events(STREAM, engine.manner))
