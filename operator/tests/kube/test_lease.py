"""Leader election on a real API server, with times short enough for tests."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from apiserver import ApiServer
from real_api import new_namespace, open_kube

from lmforge_operator.errors import LeadershipLost
from lmforge_operator.kube.client import Kube
from lmforge_operator.kube.lease import Elector, Identity
from lmforge_operator.kube.resources import LEASES
from lmforge_operator.settings import LeaderElection

pytestmark = pytest.mark.integration

SETTINGS = LeaderElection(lease_seconds=3, deadline_seconds=2, renew_seconds=0.5, poll_seconds=0.1)


@pytest.fixture
def namespace(api_server: ApiServer) -> str:
    return new_namespace(api_server, "lease")


class BrokenLine(Kube):
    """A client whose line can be cut."""

    cut = False

    async def replace(self, *arguments: object, **options: object) -> object:  # type: ignore[override]
        if self.cut:
            await asyncio.sleep(3600)
        return await super().replace(*arguments, **options)  # type: ignore[arg-type]


@asynccontextmanager
async def elector(api_server: ApiServer, namespace: str, name: str) -> AsyncIterator[Elector]:
    async with open_kube(api_server) as kube:
        line = BrokenLine(kube.transport)
        yield Elector(line, SETTINGS, namespace=namespace, identity=Identity(name, f"{name}.example:8443"))


async def test_the_first_one_leads_and_says_where_it_is(api_server: ApiServer, namespace: str) -> None:
    async with elector(api_server, namespace, "a") as a, open_kube(api_server) as kube:
        with pytest.raises(LeadershipLost):
            a.fence()
        await asyncio.wait_for(a.acquire(), 5)
        a.fence()
        lease = await kube.get(LEASES, namespace, SETTINGS.lease_name)
    assert lease is not None
    assert Identity.address_of(lease["spec"]["holderIdentity"]) == "a.example:8443"


async def test_it_is_silent_only_while_it_neither_leads_nor_runs_for_office(
    api_server: ApiServer, namespace: str
) -> None:
    now = 100.0
    async with open_kube(api_server) as kube:
        one = Elector(kube, SETTINGS, namespace=namespace, identity=Identity("a", "a:1"), clock=lambda: now)
        now = 150.0
        assert one.silence() == 50
        await one.acquire()
        assert one.silence() == 0


async def test_a_standby_waits_while_the_leader_renews(api_server: ApiServer, namespace: str) -> None:
    async with elector(api_server, namespace, "a") as a, elector(api_server, namespace, "b") as b:
        await a.acquire()
        holding = asyncio.create_task(a.hold())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(b.acquire(), SETTINGS.lease_seconds + 1.5)
        assert a.leads
        assert b.holder.startswith("a@")
        holding.cancel()


async def test_a_released_lease_is_taken_within_a_second(api_server: ApiServer, namespace: str) -> None:
    async with elector(api_server, namespace, "a") as a, elector(api_server, namespace, "b") as b:
        await a.acquire()
        waiting = asyncio.create_task(b.acquire())
        await asyncio.sleep(0.3)
        started = time.monotonic()
        await a.release()
        assert not a.leads
        await asyncio.wait_for(waiting, 5)
        assert time.monotonic() - started < 1


async def test_a_dead_leader_is_replaced_when_its_lease_is_over(api_server: ApiServer, namespace: str) -> None:
    async with elector(api_server, namespace, "a") as a, elector(api_server, namespace, "b") as b:
        await a.acquire()  # and never renews
        started = time.monotonic()
        await asyncio.wait_for(b.acquire(), 10)
        assert SETTINGS.lease_seconds - 0.5 < time.monotonic() - started < SETTINGS.lease_seconds + 1.5


async def test_two_never_lead_at_the_same_time(api_server: ApiServer, namespace: str) -> None:
    async with elector(api_server, namespace, "a") as a, elector(api_server, namespace, "b") as b:
        await a.acquire()
        holding = asyncio.create_task(a.hold())
        waiting = asyncio.create_task(b.acquire())
        await asyncio.sleep(1)
        a._kube.cut = True  # type: ignore[attr-defined]
        while not waiting.done():
            assert not (a.leads and b.leads)
            await asyncio.sleep(0.01)
        assert b.leads
        with pytest.raises(LeadershipLost):
            await asyncio.wait_for(holding, 1)


async def test_of_many_exactly_one_gets_a_new_lease(api_server: ApiServer, namespace: str) -> None:
    async with elector(api_server, namespace, "a") as a, elector(api_server, namespace, "b") as b:
        await asyncio.gather(a._try(), b._try())
        assert a.leads != b.leads
