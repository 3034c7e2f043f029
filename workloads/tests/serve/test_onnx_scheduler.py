"""Who gets a step, who waits, and how requests end; with generations that say their own number."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from gateways import until

from lmforge_workloads.serve.errors import ApiError, Unavailable
from lmforge_workloads.serve.onnx.generation import Ask, Piece
from lmforge_workloads.serve.onnx.scheduler import Job, Room, Scheduler

STOPPED = Unavailable("stopped")


@dataclass
class Steps:
    """Generations of as many tokens as they were asked for. While `go` is clear, none makes a step."""

    order: list[int] = field(default_factory=list)
    begun: list[int] = field(default_factory=list)
    go: threading.Event = field(default_factory=threading.Event)

    def begin(self, ask: Ask) -> "Counting":
        return Counting(ask, self)


@dataclass
class Counting:
    ask: Ask
    steps: Steps
    made: int = 0

    def step(self) -> Piece:
        number = self.ask.prompt[0]
        self.steps.begun.append(number)
        self.steps.go.wait()
        self.steps.order.append(number)
        if number < 0:
            raise RuntimeError("broken")
        self.made += 1
        return Piece(f"{number}", "length" if self.made == self.ask.max_tokens else None)


@contextmanager
def scheduler(*, go: bool = True, **room: int) -> Iterator[tuple[Scheduler, Steps]]:
    steps = Steps()
    running = Scheduler(steps.begin, Room(**room))
    running.start()
    if go:
        steps.go.set()
    yield running, steps
    running.stop(STOPPED)
    steps.go.set()


async def text(job: Job) -> str:
    return "".join([piece.text async for piece in job.pieces()])


def ask(number: int, tokens: int = 3) -> Ask:
    return Ask([number], tokens)


async def test_running_requests_take_turns() -> None:
    with scheduler(go=False) as (running, steps):
        first = running.submit(ask(0, 1))  # holds the thread until all others are in line
        await until(lambda: running.reserved, what="the first request is let in")
        others = [running.submit(ask(number)) for number in (1, 2)]
        steps.go.set()
        assert [await text(job) for job in (first, *others)] == ["0", "111", "222"]
        assert steps.order == [0, 1, 2, 1, 2, 1, 2]


@pytest.mark.parametrize(
    ("room", "most"),
    [({"slots": 2}, 2), ({"cache_tokens": 12}, 3), ({"cache_tokens": 7}, 1)],
    ids=["slots", "cache for three", "cache for one"],
)
async def test_no_more_run_than_there_is_room_for(room: dict[str, int], most: int) -> None:
    with scheduler(go=False, **room) as (running, steps):
        jobs = [running.submit(ask(number)) for number in range(6)]
        steps.go.set()
        assert await asyncio.gather(*map(text, jobs)) == [f"{number}" * 3 for number in range(6)]
        left = dict.fromkeys(range(6), 3)
        for number in steps.order:
            left[number] -= 1
            assert sum(0 < count < 3 for count in left.values()) <= most
        assert sorted(range(6), key=steps.order.index) == list(range(6)), "first come, first served"


async def test_a_full_line_refuses_and_says_so() -> None:
    with scheduler(go=False, slots=1, waiting=1) as (running, _):
        running.submit(ask(1))
        await until(lambda: running.reserved, what="the first request is let in")
        running.submit(ask(2))
        with pytest.raises(Unavailable, match="1 requests wait already"):
            running.submit(ask(3))


async def test_a_client_that_goes_frees_its_place_also_in_line() -> None:
    with scheduler(go=False, slots=1) as (running, steps):
        gone, waiting, last = (running.submit(ask(number, 1_000_000)) for number in (1, 2, 3))
        await until(lambda: steps.begun, what="the first one makes a step, and holds the only place")
        for job in (gone, waiting):
            pieces = job.pieces()
            reader = asyncio.ensure_future(anext(pieces))
            await asyncio.sleep(0)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            assert job.cancelled
        steps.go.set()
        async for piece in last.pieces():
            assert piece.text == "3"
            break
        assert 2 not in steps.order
        await until(lambda: not running.busy or last.cancelled, what="the last reader goes too")


async def test_one_request_that_fails_is_not_the_others_failure() -> None:
    with scheduler() as (running, _):
        broken, whole = running.submit(ask(-1)), running.submit(ask(5))
        with pytest.raises(ApiError, match="broken"):
            await text(broken)
        assert await text(whole) == "555"


async def test_stop_ends_all_with_its_error_and_takes_nothing_new() -> None:
    with scheduler(go=False, slots=1) as (running, steps):
        jobs = [running.submit(ask(number, 1_000_000)) for number in (1, 2)]
        running.stop(STOPPED)
        steps.go.set()
        for job in jobs:
            with pytest.raises(Unavailable, match="stopped"):
                await text(job)
        with pytest.raises(Unavailable, match="stopped"):
            running.submit(ask(3))
        await until(lambda: not running.alive, what="the thread ends")


async def test_idle_is_when_nothing_runs_or_waits() -> None:
    with scheduler(go=False) as (running, steps):
        job = running.submit(ask(1))
        idle = asyncio.create_task(asyncio.to_thread(running.wait_idle, seconds=10))
        await asyncio.sleep(0.01)
        assert not idle.done()
        steps.go.set()
        await text(job)
        await idle
        assert not running.busy
