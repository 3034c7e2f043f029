"""Whom the endpoint doesn't believe, and what it doesn't take: tokens and pods are real."""

from contextlib import AsyncExitStack

import pytest
from endpoint_world import Replica, World

from lmforge_operator.kube.client import Kube

pytestmark = pytest.mark.integration


async def test_only_gateways_speak_of_demand(world: World, kube: Kube, leader: Replica) -> None:
    await world.serve(kube, "chat")
    assert (await world.demand(leader, "chat", "chat-engine-0", waiting=1))[0] == 403
    assert (await world.demand(leader, "chat", "mine-0", waiting=1))[0] == 403


async def test_a_token_for_another_audience_is_refused(world: World, leader: Replica) -> None:
    for audience in ("https://kubernetes.default.svc.cluster.local", world.audience("other")):
        token = world.token("mine-0", audience=audience)
        assert (await world.post(leader, "mine", token))[0] == 401
    assert len(leader.book) == 0


async def test_a_pod_can_not_report_on_another_object(world: World, leader: Replica) -> None:
    # Whoever may make tokens can choose the audience; the pod is still not one of that object's.
    token = world.token("mine-0", audience=world.audience("other"))
    assert (await world.post(leader, "other", token))[0] == 403


async def test_a_pod_of_nobodys_is_refused(world: World, leader: Replica, kube: Kube) -> None:
    await world.add_pod(kube, "stranger", owner=None)
    token = world.token("stranger", audience=world.audience("mine"))
    assert (await world.post(leader, "mine", token))[0] == 403


async def test_a_token_that_belongs_to_no_pod_is_refused(world: World, leader: Replica) -> None:
    token = world.token(None, audience=world.audience("mine"))
    assert (await world.post(leader, "mine", token))[0] == 401


async def test_a_pod_of_an_earlier_attempt_can_not_speak_for_this_one(world: World, leader: Replica) -> None:
    token = world.token("mine-0", audience=world.audience("mine"))
    status, text = await world.post(leader, "mine", token, {"attempt": 2})
    assert status == 403
    assert "attempt" in text


async def test_without_a_token_or_with_nonsense_nothing_is_taken(world: World, leader: Replica) -> None:
    assert (await world.post(leader, "mine", None))[0] == 401
    assert (await world.post(leader, "mine", "nonsense"))[0] == 401
    assert len(leader.book) == 0


async def test_a_report_that_is_none_is_refused_with_a_sentence(world: World, leader: Replica) -> None:
    token = world.token("mine-0", audience=world.audience("mine"))
    status, text = await world.post(leader, "mine", token, {"attempt": 1, "step": -1})
    assert status == 400
    assert "step" in text


async def test_a_body_that_is_too_large_is_refused(world: World, leader: Replica) -> None:
    token = world.token("mine-0", audience=world.audience("mine"))
    assert (await world.post(leader, "mine", token, {"attempt": 1, "message": "x" * 10_000}))[0] == 413


async def test_too_many_reports_are_refused(world: World, kube: Kube, stack: AsyncExitStack) -> None:
    slow = await Replica(world, kube, leads=True, rate=2).start(stack)
    token = world.token("mine-0", audience=world.audience("mine"))
    statuses = [(await world.post(slow, "mine", token))[0] for _ in range(6)]
    assert statuses.count(200) >= 2
    assert 429 in statuses
