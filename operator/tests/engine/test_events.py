"""Events on a real API server: said once, behind the work, and not lost with the process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from apiserver import ApiServer
from real_api import eventually, new_namespace, open_kube, training_job

from lmforge_operator.engine.events import EventRecorder
from lmforge_operator.errors import LeadershipLost
from lmforge_operator.kube.resources import TRAINING_JOBS, Manifest

pytestmark = pytest.mark.integration


class World:
    """A recorder, and an object to speak of."""

    def __init__(self, api_server: ApiServer, recorder: EventRecorder, subject: Manifest) -> None:
        self.api_server = api_server
        self.recorder = recorder
        self.subject = subject
        self.namespace = subject["metadata"]["namespace"]

    def say(self, message: str) -> None:
        self.recorder.emit(self.subject, reason="Told", message=message)

    def said(self) -> list[str]:
        listed = self.api_server.kubectl("get", "events", "-n", self.namespace, "-o", "jsonpath={.items[*].message}")
        return sorted(listed.split())


@asynccontextmanager
async def world(api_server: ApiServer, *, fence: Callable[[], None] = lambda: None) -> AsyncIterator[World]:
    async with open_kube(api_server) as kube, open_kube(api_server, fence=fence) as ours:
        subject = await kube.create(TRAINING_JOBS, training_job(new_namespace(api_server, "events")))
        assert subject is not None
        yield World(api_server, EventRecorder(ours, instance="test", now=lambda: datetime.now(UTC)), subject)


@asynccontextmanager
async def at_work(recorder: EventRecorder) -> AsyncIterator[None]:
    task = asyncio.create_task(recorder.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_what_is_said_twice_is_one_event(api_server: ApiServer) -> None:
    async with world(api_server) as here, at_work(here.recorder):
        for message in ("first", "first", "second"):
            here.say(message)
        await eventually(lambda: here.said() == ["first", "second"])
        here.say("first")
        here.say("third")
        await eventually(lambda: here.said() == ["first", "second", "third"])


async def test_what_was_not_written_when_work_ended_is_flushed(api_server: ApiServer) -> None:
    async with world(api_server) as here:
        async with at_work(here.recorder):
            pass
        messages = [f"number-{number}" for number in range(5)]
        for message in messages:
            here.say(message)
        assert here.said() == []
        await here.recorder.flush()
        assert here.said() == messages


async def test_an_event_that_was_cut_off_is_written_the_next_time(api_server: ApiServer) -> None:
    leads = False

    def fence() -> None:
        if not leads:
            raise LeadershipLost("another replica leads")

    async with world(api_server, fence=fence) as here:
        here.say("kept")
        with pytest.raises(LeadershipLost):
            await here.recorder.flush()
        leads = True
        await here.recorder.flush()
        assert here.said() == ["kept"]
