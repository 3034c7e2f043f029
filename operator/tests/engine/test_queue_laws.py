"""What holds for the queue whatever happens to it: nothing is lost, nothing is worked on twice at a time."""

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lmforge_operator.engine.queue import WorkQueue

KEYS = st.sampled_from("abcd")


class QueueMachine(RuleBasedStateMachine):
    """Any order of adding, taking, finishing, failing, forgetting, and time going by."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.loop = asyncio.new_event_loop()
        self.queue: WorkQueue[str] = WorkQueue(
            clock=lambda: self.now, minimum_interval=1.0, backoff_base=1.0, backoff_max=8.0, jitter=lambda: 1.0
        )
        self.active: set[str] = set()
        self.wanted: dict[str, float] = {}
        """Keys that have to be taken, and the latest time at which they may become due."""

    def teardown(self) -> None:
        self.loop.close()

    @rule(key=KEYS, after=st.sampled_from([0.0, 0.5, 3.0]), background=st.booleans())
    def add(self, key: str, after: float, background: bool) -> None:
        self.queue.add(key, after=after, background=background)
        self.want(key, self.now + max(after, 1.0))

    @rule(key=KEYS)
    def take(self, key: str) -> None:
        taken = self.try_take()
        if taken is not None:
            self.active.add(taken)

    @rule(key=KEYS)
    def finish(self, key: str) -> None:
        if key in self.active:
            self.queue.succeeded(key)
            self.release(key, forget=False)

    @rule(key=KEYS)
    def fail(self, key: str) -> None:
        if key in self.active:
            delay = self.queue.retry(key)
            self.want(key, self.now + max(delay, 1.0))
            self.release(key, forget=False)

    @rule(key=KEYS)
    def finish_gone(self, key: str) -> None:
        if key in self.active:
            self.release(key, forget=True)

    @rule(seconds=st.sampled_from([0.3, 1.0, 5.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def nothing_is_lost(self) -> None:
        depths = self.queue.depths()
        held = set(self.queue._ready) | set(self.queue._background) | set(self.queue._delayed) | set(self.queue._again)
        assert set(self.wanted) <= held
        assert depths["active"] == len(self.active)

    @invariant()
    def each_key_waits_in_time(self) -> None:
        for key, latest in self.wanted.items():
            due = self.queue._again.get(key, self.queue._delayed.get(key, 0.0))
            assert due <= latest + 1e-9 or key in self.queue._ready or key in self.queue._background

    def want(self, key: str, latest: float) -> None:
        self.wanted[key] = min(latest, self.wanted.get(key, latest))

    def release(self, key: str, *, forget: bool) -> None:
        self.active.discard(key)
        self.queue.done(key, forget=forget)
        if key in self.wanted:  # it may have to wait for the minimum interval from now on
            self.wanted[key] = max(self.wanted[key], self.now + 1.0)

    def try_take(self) -> str | None:
        async def attempt() -> str | None:
            task = asyncio.ensure_future(self.queue.take())
            for _ in range(3):
                await asyncio.sleep(0)
            if task.done():
                return task.result()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return None

        taken = self.loop.run_until_complete(attempt())
        if taken is not None:
            assert taken not in self.active, "the same key twice in flight"
            assert taken in self.wanted, "a key that nobody wanted"
            del self.wanted[taken]
        return taken


QueueMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestQueueLaws = QueueMachine.TestCase
