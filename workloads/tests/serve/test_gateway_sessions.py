"""Conversations that the gateway remembers: in memory and in a real Redis."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from engine_stub import Engine, events
from gateways import CHAT, STREAM, Running, gateway, until, write_keys
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis_server import RedisServer

from lmforge_workloads.serve.errors import Conflict
from lmforge_workloads.serve.gateway.conversation import turn, with_history
from lmforge_workloads.serve.gateway.sessions import MemorySessions, SessionStore
from lmforge_workloads.serve.gateway.sessions_redis import RedisSessions

STORES = pytest.mark.parametrize("kind", ["memory", "redis"])
ANSWER = {"role": "assistant", "content": "The capital of France is Paris."}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def said(text: str, **more: Any) -> dict[str, Any]:
    return CHAT | {"messages": [user(text)]} | more


@asynccontextmanager
async def remembering(engine: Engine, kind: str, server: RedisServer, **more: Any) -> AsyncIterator[Running]:
    """A gateway with sessions; in Redis each test has a service of its own."""
    sessions = {"redis": {"url": server.url}} if kind == "redis" else {}
    wanted = more.pop("gateway", {}) | {"sessions": sessions | more.pop("sessions", {})}
    async with gateway(engine, gateway=wanted, uid=more.pop("uid", str(uuid4())), **more) as running:
        yield running


@STORES
async def test_a_conversation_goes_on_where_it_was(engine: Engine, redis_server: RedisServer, kind: str) -> None:
    async with remembering(engine, kind, redis_server) as running, running.client() as client:
        for text in ("Hi", "And of Italy?", "Why?"):
            await client.chat.completions.create(**said(text), extra_headers={"X-Session-Id": "a"})
        await client.chat.completions.create(**said("Who?"), extra_headers={"X-Session-Id": "b"})
        await client.chat.completions.create(**said("What?"))
    assert [seen.body["messages"] for seen in engine.seen] == [
        [user("Hi")],
        [user("Hi"), ANSWER, user("And of Italy?")],
        [user("Hi"), ANSWER, user("And of Italy?"), ANSWER, user("Why?")],
        [user("Who?")],
        [user("What?")],
    ]


@STORES
async def test_a_streamed_answer_is_remembered_before_its_end_is_told(
    engine: Engine, redis_server: RedisServer, kind: str
) -> None:
    async with remembering(engine, kind, redis_server) as running:
        answer = await running.post(said("Hi", stream=True), X_Session_Id="a")
        await running.post(said("Why?"), X_Session_Id="a")
    assert answer.body == b"".join(events(STREAM, engine.manner))
    assert engine.seen[1].body["messages"] == [user("Hi"), ANSWER, user("Why?")]


FORGOTTEN = [
    ("a stream that broke", {"break_after": 3}, True),
    ("a stream that vLLM aborted", {"finish": None}, True),
    ("an answer that was aborted", {"finish": "abort"}, False),
    ("an error", {"status": 400, "body": b"{}"}, False),
]


@STORES
@pytest.mark.parametrize(("manner", "stream"), [row[1:] for row in FORGOTTEN], ids=[row[0] for row in FORGOTTEN])
async def test_it_is_no_part_of_the_conversation(
    engine: Engine, redis_server: RedisServer, kind: str, manner: dict[str, Any], stream: bool
) -> None:
    async with remembering(engine, kind, redis_server) as running:
        whole = engine.manner
        engine.will(**manner)
        await running.post(said("Hi", stream=stream), X_Session_Id="a")
        engine.manner = whole
        await running.post(said("Why?"), X_Session_Id="a")
    assert engine.seen[-1].body["messages"] == [user("Why?")]


@STORES
async def test_what_a_client_left_is_no_part_of_the_conversation(
    engine: Engine, redis_server: RedisServer, kind: str
) -> None:
    async with remembering(engine, kind, redis_server) as running:
        engine.go.clear()
        task = asyncio.create_task(running.post(said("Hi", stream=True), X_Session_Id="a"))
        await until(lambda: engine.seen, what="the engine works")
        task.cancel()
        await until(lambda: engine.seen[0].cancelled, what="the engine has stopped")
        engine.go.set()
        await running.post(said("Why?"), X_Session_Id="a")
    assert engine.seen[-1].body["messages"] == [user("Why?")]


@STORES
async def test_requests_of_one_session_come_one_after_the_other(
    engine: Engine, redis_server: RedisServer, kind: str
) -> None:
    async with remembering(engine, kind, redis_server, uid="queue") as running:
        engine.go.clear()
        first = asyncio.create_task(running.post(said("1"), X_Session_Id="a"))
        await until(lambda: len(engine.seen) == 1, what="the first is on its way")
        second = asyncio.create_task(running.post(said("2"), X_Session_Id="a"))
        other = asyncio.create_task(running.post(said("3"), X_Session_Id="b"))
        await until(lambda: len(engine.seen) == 2, what="the other session's is on its way")
        engine.go.set()
        await asyncio.gather(first, second, other)
    assert [seen.body["messages"][-1]["content"] for seen in engine.seen] == ["1", "3", "2"]
    assert engine.seen[2].body["messages"] == [user("1"), ANSWER, user("2")]


@STORES
async def test_a_session_belongs_to_its_key(
    engine: Engine, redis_server: RedisServer, keys_path: Path, kind: str
) -> None:
    write_keys(keys_path, bank={"key": "b"}, shop={"key": "s"})
    more: Any = {"gateway": {"auth": {"secretName": "keys"}}, "keysPath": str(keys_path)}
    async with remembering(engine, kind, redis_server, **more) as running:
        await running.post(said("My PIN"), X_Session_Id="a", Authorization="Bearer b")
        await running.post(said("What was it?"), X_Session_Id="a", Authorization="Bearer s")
    assert engine.seen[1].body["messages"] == [user("What was it?")]


async def test_gateway_pods_share_conversations_in_redis(engine: Engine, redis_server: RedisServer) -> None:
    async with (
        remembering(engine, "redis", redis_server, uid="two-pods") as one,
        remembering(engine, "redis", redis_server, uid="two-pods") as other,
        remembering(engine, "redis", redis_server, uid="another-service") as stranger,
    ):
        await one.post(said("Hi"), X_Session_Id="a")
        await other.post(said("Why?"), X_Session_Id="a")
        await stranger.post(said("Who?"), X_Session_Id="a")
    assert [len(seen.body["messages"]) for seen in engine.seen] == [1, 3, 1]


async def test_a_template_comes_before_the_conversation_once(engine: Engine, redis_server: RedisServer) -> None:
    templates = {"promptTemplates": [{"name": "bank", "system": "You…", "prefix": "> "}]}
    async with remembering(engine, "memory", redis_server, gateway=templates) as running:
        for text in ("Hi", "Why?"):
            await running.post(said(text), X_Session_Id="a", X_Prompt_Template="bank")
    role = {"role": "system", "content": "You…"}
    assert engine.seen[1].body["messages"] == [role, user("> Hi"), ANSWER, user("> Why?")]


REFUSED = [
    ("a name that is too odd", "a b", {}, "X-Session-Id must be 1 to 128 letters"),
    ("several answers", "a", {"n": 2}, "A session remembers one answer a turn"),
    ("messages that are none", "a", {"messages": None}, "messages must be a list"),
]


@pytest.mark.parametrize(("name", "body", "why"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_it_is_refused(
    engine: Engine, redis_server: RedisServer, name: str, body: dict[str, Any], why: str
) -> None:
    async with remembering(engine, "memory", redis_server) as running:
        answer = await running.post(CHAT | body, X_Session_Id=name)
    assert answer.status == 400
    assert why in answer.error["message"]


async def test_without_sessions_a_client_is_told_so(engine: Engine) -> None:
    async with gateway(engine) as running:
        answer = await running.post(CHAT, X_Session_Id="a")
    assert (answer.status, "spec.gateway.sessions is not set" in answer.error["message"]) == (400, True)


async def test_a_lost_redis_fails_sessions_alone(engine: Engine) -> None:
    lost = {"sessions": {"redis": {"url": "redis://127.0.0.1:1/0"}}, "rateLimits": {"requestsPerMinute": 100}}
    async with gateway(engine, gateway=lost) as running:
        plain, session = await running.post(CHAT), await running.post(CHAT, X_Session_Id="a")
    assert (plain.status, session.status, session.error["code"]) == (200, 503, "session_store_unavailable")


def store(kind: str, redis: Redis, **more: Any) -> SessionStore:
    if kind == "memory":
        return MemorySessions(**{"ttl": 60, "max_turns": 3} | more)
    return RedisSessions(redis, prefix="x:", **{"ttl": 60, "max_turns": 3} | more)


@STORES
async def test_the_newest_turns_are_remembered_for_a_while(redis: Redis, kind: str) -> None:
    sessions = store(kind, redis, ttl=1)
    for number in range(5):
        await sessions.append("k:a", b"%d" % number)
    assert await sessions.turns("k:a") == [b"2", b"3", b"4"]

    async def forgotten() -> bool:
        return await sessions.turns("k:a") == []

    await until(forgotten, what="the session ends after a second")


@STORES
async def test_a_session_that_is_busy_for_too_long_is_a_conflict(redis: Redis, kind: str) -> None:
    sessions = store(kind, redis, busy_seconds=0.1)
    async with sessions.locked("k:a"):
        with pytest.raises(Conflict, match="Another request of this session"):
            async with sessions.locked("k:a"):
                pass
    async with sessions.locked("k:a"):
        pass


async def test_memory_forgets_sessions_that_nobody_uses() -> None:
    now = 0.0
    sessions = MemorySessions(ttl=10, max_turns=3, clock=lambda: now)
    for number in range(100):
        now = float(number)
        async with sessions.locked(f"k:{number}"):
            await sessions.append(f"k:{number}", b"x")
        async with sessions.locked("k:empty"):
            pass
    assert len(sessions) <= 11


MESSAGES = st.lists(
    st.builds(lambda role, text: {"role": role, "content": text}, st.sampled_from(["system", "user"]), st.text()),
    min_size=1, max_size=3,
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(requests=st.lists(MESSAGES, max_size=6), max_turns=st.integers(1, 4))
async def test_both_stores_keep_the_newest_turns_in_order(
    redis_server: RedisServer, requests: list[list[dict[str, str]]], max_turns: int
) -> None:
    redis = Redis.from_url(redis_server.url)
    await redis.flushall()
    stores = MemorySessions(ttl=60, max_turns=max_turns), RedisSessions(redis, prefix="x:", ttl=60, max_turns=max_turns)
    for messages in requests:
        for each in stores:
            async with each.locked("k:a"):
                await each.append("k:a", turn(messages, ANSWER))
    wanted = [[*(m for m in messages if m["role"] != "system"), ANSWER] for messages in requests][-max_turns:]
    for each in stores:
        turns = await each.turns("k:a")
        assert [json.loads(stored) for stored in turns] == wanted
        role, new = {"role": "system", "content": "s"}, user("new")
        assert with_history([role, new], turns) == [role, *(m for stored in wanted for m in stored), new]
    await redis.aclose()
