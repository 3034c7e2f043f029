"""How the gateway shares requests between two revisions, with real servers as their routers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from engine_stub import Engine, Manner, engine
from gateways import CHAT, STREAM, Answer, Running, gateway, until
from hypothesis import given
from hypothesis import strategies as st

from lmforge_api.gateway_run import RevisionCounts, Traffic
from lmforge_workloads.serve.gateway.traffic import is_dealt, place

OLD, NEW = "chat-old", "chat-new"


@dataclass
class World:
    """A gateway before two revisions."""

    running: Running
    old: Engine
    new: Engine

    def share(self, percent: int, *, step: str = "1") -> None:
        """The operator's word."""
        routes = [
            {"revision": OLD, "url": self.old.url, "percent": 100 - percent},
            {"revision": NEW, "url": self.new.url, "percent": percent},
        ]
        told = {"id": f"{percent} {step}", "routes": routes}
        self.running.server.house.parts.traffic.hear(Traffic.model_validate(told))

    async def ask(self, requests: int, body: Any = CHAT, **headers: str) -> list[Answer]:
        return [await self.running.post(body, **headers) for _ in range(requests)]

    def seen(self) -> tuple[int, int]:
        return len(self.old.seen), len(self.new.seen)

    def counts(self, revision: str) -> RevisionCounts:
        return next(each for each in self.running.server.house.report().revisions if each.revision == revision)


@asynccontextmanager
async def world(old: Engine, **more: Any) -> AsyncIterator[World]:
    async with engine() as new, gateway(old, **more) as running:
        yield World(running, old, new)


def statuses(answers: list[Answer]) -> set[int]:
    return {answer.status for answer in answers}


@given(percent=st.integers(1, 99), begin=st.integers(0, 10**6), requests=st.integers(1, 1000))
def test_of_any_run_of_requests_a_share_gets_its_part_to_a_few(percent: int, begin: int, requests: int) -> None:
    got = sum(is_dealt(number, percent) for number in range(begin, begin + requests))
    assert abs(got - requests * percent / 100) <= 3


@given(number=st.integers(0, 10**6), percent=st.integers(1, 98))
def test_a_larger_share_takes_from_nobody(number: int, percent: int) -> None:
    assert is_dealt(number, percent) <= is_dealt(number, percent + 1)


async def test_a_share_of_the_requests_goes_to_the_canary(engine: Engine) -> None:
    async with world(engine) as at:
        at.share(25)
        await at.ask(40)
        assert 7 <= len(at.new.seen) <= 13
        assert (at.counts(OLD).requests, at.counts(NEW).requests) == at.seen()
        assert sum(at.seen()) == 40


async def test_without_a_word_of_shares_all_goes_where_the_configuration_says(engine: Engine) -> None:
    async with world(engine) as at:
        await at.ask(10)
        assert at.seen() == (10, 0)
        assert at.running.server.house.report().revisions == []


async def test_a_session_moves_once_at_most_while_the_share_grows(engine: Engine) -> None:
    async with world(engine, gateway={"sessions": {}}) as at:
        moved: set[str] = set()
        for percent in (10, 50, 80):
            at.share(percent)
            before = len(at.new.seen)
            for name in range(20):
                await at.ask(2, X_Session_Id=f"s{name}")
            seen = [each.headers["x-session-id"] for each in at.new.seen[before:]]
            assert sorted(seen) == sorted([*set(seen)] * 2), "both of its requests"
            assert moved <= set(seen)
            moved = set(seen)
        assert 0 < len(moved) < 20


async def test_a_user_who_is_named_stays_with_one_revision_without_sessions(engine: Engine) -> None:
    async with world(engine) as at:
        at.share(50)
        for name in range(20):
            before = len(at.new.seen)
            await at.ask(3, X_User_Id=f"u{name}")
            assert len(at.new.seen) - before in (0, 3)
        assert 0 < len(at.new.seen) < 60


def test_conversations_spread_evenly() -> None:
    places = [place(NEW, f"session {number}") for number in range(2000)]
    assert 0.22 < sum(each < 0.25 for each in places) / len(places) < 0.28


def test_who_moves_first_is_another_with_each_revision() -> None:
    users = [f"u{n}" for n in range(200)]
    first = {each for each in users if place(NEW, each) < 0.1}
    assert first != {each for each in users if place("chat-newer", each) < 0.1}


async def test_a_canary_that_errs_fails_no_request_but_its_gate(engine: Engine) -> None:
    async with world(engine) as at:
        at.share(50)
        at.new.will(status=500, body=b"broken weights")
        assert statuses(await at.ask(20)) == {200}
        assert at.counts(NEW).errors == at.counts(NEW).requests == len(at.new.seen) >= 9
        assert (at.counts(OLD).requests, at.counts(OLD).errors) == (20, 0)


async def test_a_stream_of_a_canary_that_is_cut_is_an_error(engine: Engine) -> None:
    async with world(engine) as at:
        at.share(99)
        at.new.will(break_after=1)
        answers = await at.ask(3, STREAM)
        assert b"stream_cut" in answers[-1].body
        assert at.counts(NEW).errors == len(at.new.seen)


async def test_what_a_client_did_wrong_is_no_error_of_the_canary(engine: Engine) -> None:
    async with world(engine) as at:
        at.share(99)
        at.new.will(status=400, body=b'{"error": {"message": "too long"}}')
        assert 400 in statuses(await at.ask(5))
        assert at.counts(NEW).errors == 0
        assert at.counts(NEW).requests == len(at.new.seen)


@pytest.mark.parametrize("gone", ["its router is dead", "it has no replica ready"])
async def test_requests_go_to_the_current_revision_while_the_canary_is_gone_and_it_is_not_to_blame(
    engine: Engine, gone: str
) -> None:
    async with world(engine) as at:
        at.share(99)
        if gone == "its router is dead":
            await at.new.stop()
        else:
            at.new.ready = False
            at.new.will(status=503, body=b"No available workers")
        assert statuses(await at.ask(10)) == {200}
        assert len(at.old.seen) == 10
        assert len(at.new.seen) <= 1, "it is left alone for a while"
        assert (at.counts(NEW).requests, at.counts(NEW).errors) == (0, 0)


async def test_a_router_that_dies_with_a_request_in_its_hands_is_not_the_canarys_fault(engine: Engine) -> None:
    taken = 0

    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        taken += bool(await reader.read(100))
        writer.transport.abort()

    async with world(engine) as at, await asyncio.start_server(die, "127.0.0.1", 0) as router:
        at.new.port, port = router.sockets[0].getsockname()[1], at.new.port
        at.share(99)
        at.new.port = port
        assert statuses(await at.ask(3)) == {200}
        assert taken == 1, "then it is left alone for a while"
        assert at.counts(NEW).errors == 0


async def test_a_canary_that_is_back_gets_its_share_again(engine: Engine) -> None:
    async with world(engine) as at:
        at.share(99)
        await at.new.stop()
        await at.ask(1)
        await at.new.start()
        async with asyncio.timeout(10):
            while not at.new.seen:
                await at.ask(1)


async def test_the_current_revision_that_is_gone_holds_its_requests_and_the_canary_answers_its_own(
    engine: Engine,
) -> None:
    async with world(engine) as at:
        at.share(50)
        await at.old.stop()
        tasks = [asyncio.create_task(at.running.post(CHAT)) for _ in range(10)]
        held = at.running.server.house.report
        await until(lambda: held().waiting + sum(task.done() for task in tasks) == 10, what="each waits or is answered")
        assert 0 < held().waiting < 10
        await at.old.start()
        assert {(await task).status for task in tasks} == {200}


async def test_a_stream_of_a_canary_goes_on_when_all_is_taken_from_it(engine: Engine) -> None:
    async with world(engine) as at:
        at.share(99)
        at.new.go.clear()
        streams = [asyncio.create_task(at.running.post(STREAM)) for _ in range(4)]
        await until(lambda: len(at.new.seen) >= 3, what="streams of the canary")
        at.share(0, step="2")
        at.new.go.set()
        assert all(answer.body.endswith(b"data: [DONE]\n\n") for answer in await asyncio.gather(*streams))
        await at.ask(5)
        assert at.seen() == (5 + 4 - len(at.new.seen), len(at.new.seen))
        assert at.counts(NEW).requests == 0, "it began before this step"


async def test_the_first_token_is_timed_from_where_the_request_was_sent(engine: Engine) -> None:
    async with world(engine) as at:
        at.share(99)
        answers = await at.ask(20, STREAM)
        assert statuses(answers) == {200}
        new = at.counts(NEW)
        assert new.first_tokens == new.requests >= 19
        assert 0 < new.first_token_seconds < 20


async def test_each_step_is_counted_anew(engine: Engine) -> None:
    async with world(engine) as at:
        at.share(50)
        await at.ask(10)
        at.share(50)
        assert at.counts(OLD).requests == 5
        at.share(50, step="2")
        assert at.counts(OLD).requests == 0
        assert at.running.server.house.report().traffic_id == "50 2"


async def test_all_goes_to_another_router_at_once_and_what_waits_too(engine: Engine) -> None:
    """A revision has taken over: the old one's router is gone before the gateway hears of it."""
    async with world(engine) as at:
        await at.old.stop()
        task = asyncio.create_task(at.running.post(CHAT))
        await asyncio.sleep(0.2)
        at.running.server.house.parts.traffic.hear(
            Traffic.model_validate({"id": "new", "routes": [{"revision": NEW, "url": at.new.url, "percent": 100}]})
        )
        assert (await task).status == 200
        assert statuses(await at.ask(3)) == {200}
        assert at.seen() == (0, 4)


async def test_a_refusal_of_a_busy_canary_is_answered_by_the_current_revision(engine: Engine) -> None:
    async with world(engine) as at:
        at.share(99)
        at.new.refuse = [Manner(status=503, body=b"overloaded")]
        assert statuses(await at.ask(3)) == {200}
        assert at.counts(NEW).errors == 1
