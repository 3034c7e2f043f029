"""Requests and tokens a minute: laws of the buckets, in memory and in a real Redis, and what callers see."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine_stub import Engine
from gateways import CHAT, STREAM, Running, gateway, until, write_keys
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai import RateLimitError
from redis.asyncio import Redis
from redis_server import RedisServer

from lmforge_api.gateway import RateLimits
from lmforge_workloads.serve.gateway.limits import Limiter, MemoryLimiter, Verdict
from lmforge_workloads.serve.gateway.limits_redis import RedisLimiter

LIMITS = st.builds(
    RateLimits,
    requests_per_minute=st.none() | st.integers(1, 50),
    tokens_per_minute=st.none() | st.integers(1, 5000),
)
# Seconds that pass, tokens that are asked for, and the share of them that is used (over 1: more than was reserved).
STEP = st.tuples(st.floats(0, 30), st.integers(0, 6000), st.floats(0, 1.5))
STEPS = st.lists(STEP, max_size=30)
Steps = list[tuple[float, int, float]]


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


async def run(
    limiter: Limiter, clock: Clock, limits: RateLimits, steps: Steps
) -> list[tuple[float, Verdict, int, int]]:
    """When, what was decided, what was reserved and what was used."""
    told = []
    for seconds, asked, share in steps:
        clock.now += seconds
        verdict = await limiter.take("key", limits, tokens=asked)
        used = int(asked * share) if verdict.admitted else 0
        if verdict.admitted:
            await limiter.settle("key", limits, back=asked - used)
        told.append((clock.now, verdict, asked, used))
    return told


@given(limits=LIMITS, steps=STEPS)
async def test_no_window_admits_more_than_the_bucket_and_what_flows_in(limits: RateLimits, steps: Steps) -> None:
    clock = Clock()
    told = await run(MemoryLimiter(clock=clock), clock, limits, steps)
    admitted = [(at, asked, used) for at, verdict, asked, used in told if verdict.admitted]
    for first in range(len(admitted)):
        for last in range(first, len(admitted)):
            window = admitted[first : last + 1]
            minutes = (window[-1][0] - window[0][0]) / 60
            if limits.requests_per_minute is not None:
                assert len(window) <= limits.requests_per_minute * (1 + minutes) + 1e-6
            if limits.tokens_per_minute is not None:
                before_last = sum(used for _, _, used in window[:-1])
                wanted = min(window[-1][1], limits.tokens_per_minute)
                assert before_last + wanted <= limits.tokens_per_minute * (1 + minutes) + 1e-6


@given(limits=LIMITS, steps=STEPS)
async def test_a_refused_request_is_admitted_after_the_time_that_it_was_told(limits: RateLimits, steps: Steps) -> None:
    clock = Clock()
    limiter = MemoryLimiter(clock=clock)
    for seconds, asked, _ in steps:
        clock.now += seconds
        verdict = await limiter.take("key", limits, tokens=asked)
        if not verdict.admitted:
            clock.now += max(verdict.wait_requests, verdict.wait_tokens) + 1e-6
            assert (await limiter.take("key", limits, tokens=asked)).admitted


@given(limits=LIMITS, steps=STEPS)
async def test_what_is_given_back_leaves_no_trace(limits: RateLimits, steps: Steps) -> None:
    clock = Clock()
    limiter = MemoryLimiter(clock=clock)
    tokens_only = limits.model_copy(update={"requests_per_minute": None})
    for seconds, asked, _ in steps:
        clock.now += seconds
        assert (await limiter.take("key", tokens_only, tokens=asked)).admitted
        await limiter.settle("key", tokens_only, back=asked)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(limits=LIMITS, steps=STEPS)
async def test_redis_decides_as_memory_does(redis_server: RedisServer, limits: RateLimits, steps: Steps) -> None:
    redis = Redis.from_url(redis_server.url)
    await redis.flushall()
    clocks = Clock(), Clock()
    in_memory = await run(MemoryLimiter(clock=clocks[0]), clocks[0], limits, steps)
    in_redis = await run(RedisLimiter(redis, prefix="x:", clock=clocks[1]), clocks[1], limits, steps)
    await redis.aclose()
    for (_, mine, *_), (_, theirs, *_) in zip(in_memory, in_redis, strict=True):
        assert mine.admitted == theirs.admitted or min(_near(mine), _near(theirs)) < 1e-3
        assert mine.levels.requests == pytest.approx(theirs.levels.requests, abs=1e-3)
        assert mine.levels.tokens == pytest.approx(theirs.levels.tokens, abs=1e-1)


def _near(verdict: Verdict) -> float:
    """Seconds between a refusal and its contrary."""
    return max(verdict.wait_requests, verdict.wait_tokens)


async def test_many_at_a_time_share_one_bucket_in_redis(redis: Redis, redis_server: RedisServer) -> None:
    limits = RateLimits(requests_per_minute=10)
    clients = [Redis.from_url(redis_server.url) for _ in range(4)]
    pods = [RedisLimiter(client, prefix="x:", clock=Clock()) for client in clients]
    verdicts = await asyncio.gather(*(pods[n % 4].take("key", limits, tokens=0) for n in range(40)))
    assert sum(verdict.admitted for verdict in verdicts) == 10
    assert 0 < await redis.ttl("x:limits:key") <= 61
    for client in clients:
        await client.aclose()


async def test_redis_own_clock_refills_the_bucket(redis: Redis) -> None:
    limits, limiter = RateLimits(requests_per_minute=6000), RedisLimiter(redis, prefix="x:")
    before = await limiter.take("key", limits, tokens=0)
    await asyncio.sleep(0.05)
    after = await limiter.take("key", limits, tokens=0)
    assert before.levels.requests == 5999
    assert after.levels.requests == pytest.approx(5999, abs=0.01)


async def test_without_redis_each_pod_counts_for_itself() -> None:
    lost = Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=0.2)
    limiter, limits = RedisLimiter(lost, prefix="x:"), RateLimits(requests_per_minute=1, tokens_per_minute=100)
    assert (await limiter.take("key", limits, tokens=10)).admitted
    await limiter.settle("key", limits, back=5)
    assert not (await limiter.take("key", limits, tokens=10)).admitted
    await lost.aclose()


def settings_of(keys_path: Path, **limits: int) -> dict[str, Any]:
    write_keys(keys_path, bank={"key": "k", "rateLimits": limits}, shop={"key": "s"})
    return {"gateway": {"auth": {"secretName": "keys"}}, "keysPath": str(keys_path)}


async def test_the_official_client_sees_that_its_minute_is_used_up(engine: Engine, keys_path: Path) -> None:
    async with gateway(engine, **settings_of(keys_path, requestsPerMinute=2)) as running, running.client("k") as client:
        for _ in range(2):
            await client.chat.completions.create(**CHAT)
        with pytest.raises(RateLimitError, match="API key bank may use 2 requests a minute") as refused:
            await client.chat.completions.create(**CHAT)
        assert refused.value.response.headers["retry-after"] in ("29", "30")
        assert refused.value.code == "requests_per_minute_exceeded"
        async with running.client("s") as other:
            assert (await other.chat.completions.create(**CHAT)).choices, "another key is not hindered"


def remaining(headers: dict[str, str]) -> int:
    return int(headers["x-ratelimit-remaining-tokens"])


async def level(running: Running, keys: str = "bank") -> float:
    limits = RateLimits(tokens_per_minute=1000)
    return (await running.server.house.parts.limiter.take(keys, limits, tokens=0)).levels.tokens


SETTLED: list[tuple[str, dict[str, Any], Callable[[Engine], object], tuple[float, float]]] = [
    ("an answer", CHAT, lambda engine: None, (12, 12)),
    ("a stream", STREAM, lambda engine: None, (12, 12)),
    ("a refusal", CHAT, lambda engine: engine.will(status=400), (0, 0)),
    ("a cut stream", STREAM, lambda engine: engine.will(break_after=4), (20, 60)),
    ("more than was asked for", CHAT, lambda engine: engine.will(prompt_tokens=1500), (1507, 1507)),
]


@pytest.mark.parametrize(("body", "manner", "used"), [row[1:] for row in SETTLED], ids=[row[0] for row in SETTLED])
async def test_tokens_are_reserved_and_then_settled(
    engine: Engine,
    keys_path: Path,
    body: dict[str, Any],
    manner: Callable[[Engine], object],
    used: tuple[float, float],
) -> None:
    manner(engine)
    async with gateway(engine, **settings_of(keys_path, tokensPerMinute=1000)) as running:
        answer = await running.post(body | {"max_tokens": 600}, Authorization="Bearer k")
        if "x-ratelimit-remaining-tokens" in answer.headers:
            assert 300 < remaining(answer.headers) < 400, "the reservation"
        spent = 1000 - await level(running)
    assert used[0] - 1 - 10 < spent <= used[1]  # ten tokens flow in within 0.6 s


async def test_tokens_that_are_reserved_are_not_there_for_others(engine: Engine, keys_path: Path) -> None:
    engine.go.clear()
    async with gateway(engine, **settings_of(keys_path, tokensPerMinute=1000)) as running:
        first = asyncio.create_task(running.post(CHAT | {"max_tokens": 900}, Authorization="Bearer k"))
        await until(lambda: engine.seen, what="the first is on its way")
        refused = await running.post(CHAT | {"max_tokens": 900}, Authorization="Bearer k")
        engine.go.set()
        assert (await first).status == 200
        assert (await running.post(CHAT | {"max_tokens": 900}, Authorization="Bearer k")).status == 200
    assert (refused.status, refused.error["code"]) == (429, "tokens_per_minute_exceeded")
    assert int(refused.headers["retry-after"]) > 40


async def test_a_client_that_goes_unanswered_is_charged_what_it_reserved(engine: Engine, keys_path: Path) -> None:
    engine.go.clear()
    async with gateway(engine, **settings_of(keys_path, tokensPerMinute=1000)) as running:
        task = asyncio.create_task(running.post(CHAT | {"max_tokens": 600}, Authorization="Bearer k"))
        await until(lambda: engine.seen, what="the engine works")
        task.cancel()
        await until(lambda: engine.seen[0].cancelled, what="the engine has stopped")
        assert await level(running) < 420


async def test_without_keys_all_callers_share_the_default(engine: Engine) -> None:
    async with gateway(engine, gateway={"rateLimits": {"requestsPerMinute": 1}}) as running:
        first, second = await running.post(CHAT), await running.post(CHAT)
    assert (first.status, second.status) == (200, 429)
    assert first.headers["x-ratelimit-remaining-requests"] == "0"
    assert second.error["message"].startswith("Callers without an API key together may use 1 requests a minute")


async def test_gateway_pods_share_limits_in_redis(engine: Engine, keys_path: Path, redis_server: RedisServer) -> None:
    more = settings_of(keys_path, requestsPerMinute=1)
    more["gateway"]["sessions"] = {"redis": {"url": redis_server.url}}
    more["uid"] = "shared-limits"
    async with gateway(engine, **more) as one, gateway(engine, **more) as other:
        assert (await one.post(CHAT, Authorization="Bearer k")).status == 200
        assert (await other.post(CHAT, Authorization="Bearer k")).status == 429
