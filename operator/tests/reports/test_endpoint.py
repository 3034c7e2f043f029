"""The endpoint with tokens that a real API server made for real pod objects, over TLS."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime

import pytest
from endpoint_world import SERVICE, Replica, World

from lmforge_operator.kube.client import Kube
from lmforge_operator.kube.resources import Key
from lmforge_operator.reports.tls import Certificate

pytestmark = pytest.mark.integration


async def test_a_pods_report_is_taken_and_wakes_its_object(world: World, leader: Replica) -> None:
    token = world.token("mine-0", audience=world.audience("mine"))
    status, reply = await world.post(leader, "mine", token)
    assert (status, reply) == (200, '{"stop":false}')
    key = Key("TrainingJob", world.namespace, "mine")
    latest = leader.book.latest(world.objects[key]["metadata"]["uid"])
    assert latest is not None
    assert latest[0].step == 7
    assert leader.woken == [(key, True)]


async def test_mere_progress_is_not_urgent_and_a_checkpoint_is(world: World, leader: Replica) -> None:
    token = world.token("mine-0", audience=world.audience("mine"))
    report = {"attempt": 1, "stage": "Training", "step": 7}
    for change in ({}, {"step": 8, "loss": 1.0}, {"step": 9, "checkpoint": {"step": 9}}, {"stage": "Exporting"}):
        assert (await world.post(leader, "mine", token, report | change))[0] == 200
    assert [urgent for _, urgent in leader.woken] == [True, False, True, True]


async def test_a_stop_that_was_asked_for_is_in_the_reply(world: World, leader: Replica) -> None:
    uid = world.objects[Key("TrainingJob", world.namespace, "mine")]["metadata"]["uid"]
    leader.book.ask_stop(uid, 1)
    token = world.token("mine-0", audience=world.audience("mine"))
    assert (await world.post(leader, "mine", token))[1] == '{"stop":true}'


async def test_a_gateways_demand_is_taken_and_answered_with_the_replicas_that_are_ready(
    world: World, kube: Kube, leader: Replica
) -> None:
    await world.serve(kube, "chat")
    assert await world.demand(leader, "chat", "chat-gateway", waiting=2) == (200, '{"ready":1,"adapters":["legal"]}')
    key = Key("InferenceService", world.namespace, "chat")
    held = leader.demand.held(world.objects[key]["metadata"]["uid"], now=datetime.now(UTC))
    assert held is not None
    assert held.waiting == 2
    await world.demand(leader, "chat", "chat-gateway", waiting=3)
    assert leader.woken == [(key, True), (key, False)]  # only the first that waits is urgent


async def test_a_token_is_reviewed_once_and_then_remembered(world: World, leader: Replica) -> None:
    token = world.token("mine-0", audience=world.audience("mine"))
    assert (await world.post(leader, "mine", token))[0] == 200
    leader.server._reviewer._kube = None  # type: ignore[assignment]
    assert (await world.post(leader, "mine", token))[0] == 200


async def test_a_standby_passes_reports_on_to_the_leader(
    world: World, leader: Replica, kube: Kube, stack: AsyncExitStack
) -> None:
    standby = await Replica(world, kube, leads=False).start(stack)
    standby.holder = f"leader_1@127.0.0.1:{leader.port}"
    token = world.token("mine-0", audience=world.audience("mine"))
    assert await world.post(standby, "mine", token) == (200, '{"stop":false}')
    assert len(leader.book) == 1
    assert len(standby.book) == 0
    assert (await world.post(standby, "mine", "nonsense"))[0] == 401


async def test_with_no_leader_the_pod_is_told_to_try_again(world: World, kube: Kube, stack: AsyncExitStack) -> None:
    standby = await Replica(world, kube, leads=False).start(stack)
    token = world.token("mine-0", audience=world.audience("mine"))
    assert (await world.post(standby, "mine", token))[0] == 503
    standby.holder = f"self@127.0.0.1:{standby.port}"  # a stale lease must not make a circle
    assert (await world.post(standby, "mine", token))[0] == 503


async def test_a_renewed_certificate_is_taken_up(world: World) -> None:
    certificate = Certificate(world.certificates)
    assert not certificate.refresh()
    identity = world.api_server.control_plane.authority.sign("reports-renewed", user="reports", hosts=[SERVICE])
    (world.certificates / "tls.crt").write_bytes(identity.certificate.read_bytes())
    (world.certificates / "tls.key").write_bytes(identity.key.read_bytes())
    assert certificate.refresh()
