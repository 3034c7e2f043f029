"""The queue, with a clock that only moves when told to."""

import asyncio

import pytest

from lmforge_operator.engine.queue import WorkQueue


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue[str]:
    return WorkQueue(clock=clock, backoff_base=1.0, backoff_max=60.0, jitter=lambda: 1.0)


async def taken(queue: WorkQueue[str]) -> list[str]:
    """Everything that can be taken at this moment."""
    keys = []
    while True:
        task = asyncio.ensure_future(queue.take())
        for _ in range(3):
            await asyncio.sleep(0)
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return keys
        keys.append(task.result())


async def test_a_key_that_is_added_twice_is_taken_once(queue: WorkQueue[str]) -> None:
    queue.add("a")
    queue.add("a")
    assert await taken(queue) == ["a"]


async def test_keys_are_taken_in_the_order_in_which_they_came(queue: WorkQueue[str]) -> None:
    for key in "cab":
        queue.add(key)
    assert await taken(queue) == ["c", "a", "b"]


async def test_a_key_in_work_is_not_taken_again_until_it_is_done(queue: WorkQueue[str]) -> None:
    queue.add("a")
    assert await taken(queue) == ["a"]
    queue.add("a")
    assert await taken(queue) == []
    queue.done("a")
    assert await taken(queue) == ["a"]


async def test_a_key_that_nobody_asked_for_again_stays_away(queue: WorkQueue[str]) -> None:
    queue.add("a")
    assert await taken(queue) == ["a"]
    queue.done("a")
    assert await taken(queue) == []


async def test_a_delayed_key_comes_when_it_is_due(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add("a", after=5)
    clock.now += 4.9
    assert await taken(queue) == []
    clock.now += 0.1
    assert await taken(queue) == ["a"]


async def test_the_earliest_wish_wins(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add("a", after=50)
    queue.add("a", after=5)
    queue.add("a", after=20)
    clock.now += 5
    assert await taken(queue) == ["a"]


async def test_taking_a_key_drops_what_it_waited_for(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add("a", after=5)
    queue.add("a")
    assert await taken(queue) == ["a"]
    queue.done("a")
    clock.now += 10
    assert await taken(queue) == []


async def test_a_failure_brings_the_key_back_later_each_time(queue: WorkQueue[str], clock: Clock) -> None:
    delays = []
    for _ in range(8):
        queue.add("a")
        assert await taken(queue) == ["a"]
        delays.append(queue.retry("a"))
        queue.done("a")
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60]


async def test_after_a_success_the_next_failure_is_the_first(queue: WorkQueue[str]) -> None:
    queue.retry("a")
    queue.retry("a")
    queue.succeeded("a")
    assert queue.retry("a") == 1


async def test_the_server_can_ask_for_a_longer_pause(queue: WorkQueue[str]) -> None:
    assert queue.retry("a", at_least=7) == 7


async def test_news_end_a_backoff(queue: WorkQueue[str]) -> None:
    queue.retry("a")
    assert await taken(queue) == []
    queue.add("a")
    assert await taken(queue) == ["a"]


async def test_the_same_key_keeps_a_minimum_interval(clock: Clock) -> None:
    queue: WorkQueue[str] = WorkQueue(clock=clock, minimum_interval=2.0)
    queue.add("a")
    assert await taken(queue) == ["a"]
    queue.done("a")
    queue.add("a")
    assert await taken(queue) == []
    clock.now += 2
    assert await taken(queue) == ["a"]


async def test_mere_progress_waits_for_its_interval_and_news_do_not(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add("a")
    assert await taken(queue) == ["a"]
    queue.done("a")
    clock.now += 1
    queue.add("a", at_most_every=5)
    assert await taken(queue) == []
    queue.add("a")
    assert await taken(queue) == ["a"]
    queue.done("a")
    queue.add("a", at_most_every=5)
    clock.now += 5
    assert await taken(queue) == ["a"]


async def test_background_keys_are_taken_when_nothing_is_ready(queue: WorkQueue[str]) -> None:
    queue.add("old", background=True)
    queue.add("new")
    assert await taken(queue) == ["new", "old"]


async def test_an_event_moves_a_background_key_forward(queue: WorkQueue[str]) -> None:
    queue.add("a", background=True)
    queue.add("b", background=True)
    queue.add("b")
    assert await taken(queue) == ["b", "a"]


async def test_a_forgotten_key_that_came_back_while_in_work_is_taken_again(queue: WorkQueue[str]) -> None:
    queue.add("a")
    assert await taken(queue) == ["a"]
    queue.add("a")
    queue.done("a", forget=True)
    assert await taken(queue) == ["a"]


async def test_nothing_is_kept_of_keys_that_are_forgotten(queue: WorkQueue[str], clock: Clock) -> None:
    for number in range(1000):
        key = str(number)
        queue.add(key)
        assert await taken(queue) == [key]
        queue.add(key, after=100)
        queue.retry(key)
        queue.done(key, forget=True)
        queue.forget(key)
    assert queue._taken == {}
    assert queue._failures == {}
    assert queue._delayed == {}


async def test_wishes_that_are_moved_forward_do_not_pile_up(queue: WorkQueue[str], clock: Clock) -> None:
    for _ in range(10_000):
        queue.add("a", after=86_400)
        queue.add("a")
        assert await taken(queue) == ["a"]
        queue.done("a")
        clock.now += 1
    assert len(queue._heap) < 200


async def test_take_wakes_up_when_a_delayed_key_is_due() -> None:
    loop = asyncio.get_running_loop()
    queue: WorkQueue[str] = WorkQueue(clock=loop.time)
    queue.add("later", after=0.05)
    async with asyncio.timeout(2):
        assert await queue.take() == "later"


async def test_take_wakes_up_for_a_key_that_is_due_before_the_one_it_waits_for() -> None:
    loop = asyncio.get_running_loop()
    queue: WorkQueue[str] = WorkQueue(clock=loop.time)
    queue.add("later", after=60)
    task = asyncio.ensure_future(queue.take())
    await asyncio.sleep(0)
    queue.add("sooner", after=0.01)
    assert await asyncio.wait_for(task, 2) == "sooner"


@pytest.mark.parametrize("also_waiting", [None, 30.0], ids=["nothing else", "something for later"])
async def test_who_waits_is_cancelled_even_when_news_comes_at_the_same_moment(
    queue: WorkQueue[str], also_waiting: float | None
) -> None:
    if also_waiting:
        queue.add("later", after=also_waiting)
    waits = asyncio.create_task(queue.take())
    await asyncio.sleep(0.01)
    queue.add("a")
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits
    assert await taken(queue) == ["a"]
