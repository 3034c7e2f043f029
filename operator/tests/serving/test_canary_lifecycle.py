"""Canaries with the real operator and a real API server; the test plays cluster and gateway."""

from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from apiserver import ApiServer
from cluster_player import ClusterPlayer, Manifest
from operator_process import Operator, condition, demand, serve
from real_api import eventually

from lmforge_api.gateway_run import DemandReply
from lmforge_operator.kube.resources import DEPLOYMENTS, EVENTS, SERVICES

pytestmark = pytest.mark.integration

STEPS = [{"percent": 25, "seconds": 1}, {"percent": 50, "seconds": 1}]
CANARY = {"canary": {"steps": STEPS, "gates": {"minRequests": 10, "maxErrorPercent": 10}}}
OTHER = {"labels": {"example.org/wave": "2"}}


@dataclass
class Gateway:
    """What the pod of a service's gateway hears and says."""

    api_server: ApiServer
    player: ClusterPlayer
    operator: Operator
    name: str

    async def says(self, **report: Any) -> DemandReply:
        (pod,) = await self.player.pods_of(f"{self.name}-gateway")
        return await demand(self.api_server, self.player, self.operator, pod, **report)

    async def shares(self) -> dict[str, int]:
        traffic = (await self.says()).traffic
        return {route.revision: route.percent for route in traffic.routes} if traffic else {}

    async def counts(self, *, requests: int, errors: int = 0) -> None:
        """So many requests to each revision since the step began."""
        traffic = (await self.says()).traffic
        assert traffic is not None
        seen = [{"revision": route.revision, "requests": requests, "errors": errors} for route in traffic.routes]
        await self.says(trafficId=traffic.id, revisions=seen, total=requests)


@pytest.fixture
def gateway(api_server: ApiServer, player: ClusterPlayer, operator: Operator) -> Any:
    return lambda name: Gateway(api_server, player, operator, name)


async def selected(player: ClusterPlayer, service: str) -> Manifest:
    found = await player.kube.get(SERVICES, player.namespace, service)
    assert found is not None
    return dict(found["spec"]["selector"])


async def routers(player: ClusterPlayer, name: str) -> set[str]:
    found = [each async for page in player.kube.pages(DEPLOYMENTS, namespace=player.namespace) for each in page.items]
    names = {each["metadata"]["name"] for each in found if each["metadata"]["labels"]["lmforge.dev/name"] == name}
    return {each for each in names if each.endswith("-router")}


async def begin(player: ClusterPlayer, name: str, old: str) -> str:
    """Asks for another revision, whose replicas get ready; gives it once it has its first share."""
    await player.change(name, template=OTHER)
    status = await player.until(name, phase="Updating", canary__phase="Loading", currentRevision=old)
    new: str = status["updateRevision"]
    await player.all_ready(new, 1)
    status = await player.until(name, canary__percent=25, currentRevision=old)
    assert status["traffic"] == [{"revision": old, "percent": 75}, {"revision": new, "percent": 25}]
    return new


async def test_a_good_revision_gets_more_and_more_and_then_all(player: ClusterPlayer, gateway: Any) -> None:
    old = await serve(player, "good", rollout=CANARY)
    heard = gateway("good")
    assert await heard.shares() == {old: 100}
    assert await routers(player, "good") == {f"{old}-router"}
    assert (await selected(player, "good-router"))["lmforge.dev/revision"] == old
    assert (await selected(player, "good"))["lmforge.dev/role"] == "gateway"

    new = await begin(player, "good", old)
    assert await heard.shares() == {old: 75, new: 25}
    assert (await selected(player, f"{new}-router"))["lmforge.dev/revision"] == new
    await heard.counts(requests=4)
    status = await player.until("good", canary__requests=4)
    said = f"25% of requests go to revision {new}, 4 of 10 requests seen (it goes on at gates.minRequests"
    assert status["message"].startswith(f"Canary: {said}")
    await heard.counts(requests=10, errors=1)
    await player.until("good", canary__percent=50, currentRevision=old)
    await heard.counts(requests=10)
    status = await player.until("good", phase="Ready", currentRevision=new, ready="1/1")
    assert "canary" not in status
    assert await heard.shares() == {new: 100}

    async def old_is_gone() -> bool:
        gone = old not in await player.deployments() and not await player.engines(old)
        return gone and await routers(player, "good") == {f"{new}-router"}

    await eventually(old_is_gone, seconds=30)
    assert (await selected(player, "good-router"))["lmforge.dev/revision"] == new
    reasons = await told(player, "good")
    assert {"CanaryStep", "CanaryPassed", "RevisionServes"} <= reasons


async def told(player: ClusterPlayer, name: str) -> set[str]:
    pages = player.kube.pages(EVENTS, namespace=player.namespace)
    return {each["reason"] async for page in pages for each in page.items if each["regarding"]["name"] == name}


async def test_a_revision_whose_gate_fails_is_rolled_back_and_tried_again_with_other_gates(
    player: ClusterPlayer, gateway: Any
) -> None:
    old = await serve(player, "bad", rollout=CANARY)
    new = await begin(player, "bad", old)
    heard = gateway("bad")
    await heard.counts(requests=6, errors=2)
    status = await player.until("bad", phase="Degraded", reason="GateFailed", currentRevision=old, ready="0/1")
    assert status["failedRevision"]["revision"] == new
    assert status["message"] == (
        f"Revision {new} was rolled back: At 25% of the traffic, 2 of 6 requests failed (33.3%), and "
        f"gates.maxErrorPercent is 10. Revision {old} keeps serving."
    )
    assert condition(status, "Available")[0] == "True"
    assert condition(status, "Degraded") == ("True", "GateFailed")
    assert await heard.shares() == {old: 100}

    async def withdrawn() -> bool:
        return not await player.engines(new) and len(await player.engines(old)) == 1

    await eventually(withdrawn, seconds=30)
    softer = CANARY["canary"] | {"gates": {"minRequests": 10, "maxErrorPercent": 60}}
    await player.change("bad", rollout={"canary": softer})
    await player.all_ready(new, 1)
    status = await player.until("bad", canary__percent=25, currentRevision=old)
    assert "failedRevision" not in status


async def test_an_operator_that_dies_in_the_middle_goes_on_where_it_was(
    player: ClusterPlayer, operator: Operator, gateway: Any
) -> None:
    old = await serve(player, "again", rollout=CANARY)
    new = await begin(player, "again", old)
    heard = gateway("again")
    await heard.counts(requests=10)
    await player.until("again", canary__percent=50)
    operator.kill()
    operator.start()

    async def hears() -> bool:
        try:
            return bool(await heard.shares() == {old: 50, new: 50})
        except (aiohttp.ClientError, AssertionError):
            return False

    await eventually(hears, seconds=30)
    await heard.counts(requests=10)
    await player.until("again", phase="Ready", currentRevision=new)


async def test_a_running_service_gets_canaries_and_does_without_them_again(player: ClusterPlayer, gateway: Any) -> None:
    old = await serve(player, "later")
    assert await routers(player, "later") == {"later-router"}
    await player.change("later", rollout=CANARY)

    async def by_revision() -> bool:
        return await routers(player, "later") == {f"{old}-router"}

    await eventually(by_revision, seconds=30)
    assert (await selected(player, "later"))["lmforge.dev/role"] == "gateway"
    assert (await selected(player, "later-router"))["lmforge.dev/revision"] == old
    new = await begin(player, "later", old)
    await player.change("later", rollout={"canary": None})
    await player.until("later", phase="Ready", currentRevision=new)

    async def by_all() -> bool:
        return await routers(player, "later") == {"later-router"}

    await eventually(by_all, seconds=30)
    assert (await selected(player, "later"))["lmforge.dev/role"] == "router"
