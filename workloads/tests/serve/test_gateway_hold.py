"""Requests to a service at zero wait, wake it, and are answered in their order."""

import asyncio

import pytest
from engine_stub import Engine, Manner, engine
from gateways import CHAT, Answer, Running, gateway, until


def asking(running: Running, number: int) -> asyncio.Task[Answer]:
    return asyncio.create_task(running.post(CHAT | {"user": str(number)}))


def held(running: Running) -> int:
    return running.server.house.report().waiting


async def test_requests_wait_for_an_engine_and_go_on_in_their_order(engine: Engine) -> None:
    await engine.stop()
    async with gateway(engine) as running:
        tasks = []
        for number in range(8):
            tasks.append(asking(running, number))
            await until(lambda: held(running) == len(tasks), what="it waits")
        await engine.start()
        assert [(await task).status for task in tasks] == [200] * 8
    assert [seen.body["user"] for seen in engine.seen] == [str(number) for number in range(8)]


async def test_a_router_without_engines_makes_requests_wait_too(engine: Engine) -> None:
    engine.ready = False
    engine.refuse = [Manner(status=500, body=b"No available workers")] * 3
    async with gateway(engine) as running:
        tasks = [asking(running, number) for number in range(3)]
        await until(lambda: held(running) == 3, what="all wait")
        engine.ready = True
        assert {(await task).status for task in tasks} == {200}
    assert len(engine.seen) == 6


async def test_a_request_that_brings_engines_down_is_not_sent_for_ever(engine: Engine) -> None:
    engine.will(status=500, body=b"crashed", goes_down=True)
    async with gateway(engine) as running:
        task = asking(running, 0)
        for _ in range(3):
            await until(lambda: held(running), what="it waits again")
            engine.ready = True
            await until(lambda: not engine.ready, what="it has done so again")
        assert (await task).status == 500
    assert len(engine.seen) == 4


async def test_a_request_waits_no_longer_than_it_may(engine: Engine) -> None:
    await engine.stop()
    async with gateway(engine, hold={"seconds": 0.2}) as running:
        answer = await running.post(CHAT)
        assert held(running) == 0
    assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (503, "no_replica_ready", "10")
    assert answer.error["message"].startswith("No replica of demo/helpdesk became ready within 0 s: ")


@pytest.mark.parametrize("hold", [{"seconds": 0}, {"maxRequests": 0}], ids=["no time", "no place"])
async def test_without_hold_the_answer_is_503_until_there_is_an_engine(engine: Engine, hold: dict[str, int]) -> None:
    await engine.stop()
    async with gateway(engine, hold=hold) as running:
        assert [(await running.post(CHAT)).status for _ in range(2)] == [503, 503]
        await engine.start()
        await until(lambda: _answers(running), what="it is answered")


async def _answers(running: Running) -> bool:
    return (await running.post(CHAT)).status == 200


async def test_no_more_wait_than_may(engine: Engine) -> None:
    await engine.stop()
    async with gateway(engine, hold={"maxRequests": 2}) as running:
        tasks = [asking(running, number) for number in range(2)]
        await until(lambda: held(running) == 2, what="two wait")
        third = await running.post(CHAT)
        await engine.start()
        assert {(await task).status for task in tasks} == {200}
    assert (third.status, third.error["code"]) == (503, "too_many_waiting")


async def test_a_client_that_goes_frees_its_place(engine: Engine) -> None:
    await engine.stop()
    async with gateway(engine) as running:
        task = asking(running, 0)
        await until(lambda: held(running) == 1, what="it waits")
        task.cancel()
        await until(lambda: held(running) == 0, what="its place is free")
        await engine.start()
        assert (await running.post(CHAT)).status == 200
    assert len(engine.seen) == 1


async def test_an_engine_that_went_between_two_requests_is_waited_for(engine: Engine) -> None:
    async with gateway(engine) as running:
        assert (await running.post(CHAT)).status == 200
        await engine.stop()
        task = asking(running, 1)
        await until(lambda: held(running) == 1, what="it waits")
        await engine.start()
        assert (await task).status == 200


async def test_the_upstream_is_left_alone_while_nobody_waits() -> None:
    async with engine() as stub, gateway(stub) as running:
        await running.post(CHAT)
        probes = stub.probes
        await asyncio.sleep(0.3)
        assert stub.probes == probes == 0


async def test_each_probe_is_a_connection_of_its_own_so_that_it_finds_a_new_pod_behind_a_service() -> None:
    async with engine() as stub, gateway(stub) as running:
        stub.ready = False
        stub.refuse = [Manner(status=500, body=b"No available workers")]
        task = asking(running, 0)
        await until(lambda: stub.probes >= 3, what="it is probed")
        stub.ready = True
        assert (await task).status == 200
    assert set(stub.probe_connections) == {"close"}


async def test_readiness_of_the_gateway_does_not_hang_on_engines(engine: Engine) -> None:
    await engine.stop()
    async with gateway(engine) as running:
        assert (await running.get("/readyz")).status == 200
