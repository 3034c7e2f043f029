"""What the operator hears of requests, over real HTTPS."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from engine_stub import Engine
from gateways import CHAT, MODEL, gateway, until

from lmforge_api.gateway_run import DemandReply, DemandReport
from lmforge_workloads.serve.gateway.demand import Demand


@dataclass
class Operator:
    """Takes reports, and answers how many replicas are ready."""

    reports: list[DemandReport] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    ready: int | None = None
    adapters: list[str] | None = None
    status: int = 200

    async def take(self, request: web.Request) -> web.Response:
        self.tokens.append(request.headers["Authorization"])
        self.reports.append(DemandReport.model_validate_json(await request.read()))
        reply = DemandReply(ready=self.ready, adapters=self.adapters)
        return web.json_response(reply.wire(), status=self.status)


def certified(directory: Path) -> tuple[Path, Path]:
    """A key and its certificate for 127.0.0.1."""
    key, certificate = directory / "tls.key", directory / "tls.crt"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", "/CN=operator", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, certificate


@asynccontextmanager
async def operator(tmp_path: Path) -> AsyncIterator[tuple[Operator, dict[str, Any]]]:
    """One over TLS, and the target that leads to it."""
    token = tmp_path / "token"
    token.write_text("projected\n")
    key, certificate = certified(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    hears = Operator()
    app = web.Application()
    app.router.add_post("/v1/demand/inferenceservices/demo/helpdesk", hears.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}/v1/demand/inferenceservices/demo/helpdesk"
    try:
        yield hears, {"url": url, "tokenPath": str(token), "caPath": str(certificate), "everySeconds": 0.2}
    finally:
        await runner.cleanup()


async def test_a_request_that_has_to_wait_wakes_the_service(engine: Engine, tmp_path: Path) -> None:
    await engine.stop()
    async with operator(tmp_path) as (hears, target), gateway(engine, demand=target) as running:
        await until(lambda: hears.reports, what="the gateway says that it is there")
        assert (hears.reports[0].pod, hears.reports[0].waiting) == ("gateway-0", 0)
        task = asyncio.create_task(running.post(CHAT))
        await until(lambda: hears.reports[-1].waiting == 1, what="the operator hears of it")
        await engine.start()
        assert (await task).status == 200
        await until(lambda: hears.reports[-1].waiting == 0, what="and that it waits no more")
    assert hears.reports[-1].total == 1
    assert set(hears.tokens) == {"Bearer projected"}


async def test_adapters_that_come_and_go_are_heard_of_without_a_restart(engine: Engine, tmp_path: Path) -> None:
    async with (
        operator(tmp_path) as (hears, target),
        gateway(engine, demand=target, adapters=["legal"]) as running,
        running.client() as client,
    ):

        async def models() -> list[str]:
            await running.post(CHAT)  # so that it reports
            return [model.id async for model in client.models.list()]

        async def told(*names: str) -> bool:
            return await models() == [MODEL, *names]

        assert await told("legal")
        hears.adapters = ["legal", "tone"]
        await until(lambda: told("legal", "tone"), what="the new adapter is listed")
        hears.adapters = []
        await until(told, what="none is listed")


async def test_demand_is_told_while_there_is_any_and_then_no_more(engine: Engine, tmp_path: Path) -> None:
    async with operator(tmp_path) as (hears, target), gateway(engine, demand=target) as running:
        engine.go.clear()
        task = asyncio.create_task(running.post(CHAT))
        await until(lambda: any(report.running == 1 for report in hears.reports), what="it is heard that one runs")
        engine.go.set()
        await task
        await until(lambda: hears.reports[-1].running == 0, what="it is heard that none runs")
        count = len(hears.reports)
        await asyncio.sleep(0.5)
        assert len(hears.reports) == count, "nothing new, nothing said"
    assert hears.reports[-1].idle_seconds >= 0


async def test_requests_that_are_refused_keep_no_service_awake(engine: Engine, tmp_path: Path) -> None:
    auth = {"auth": {"secretName": "keys"}}
    async with operator(tmp_path) as (hears, target), gateway(engine, demand=target, gateway=auth) as running:
        await until(lambda: hears.reports, what="the gateway says that it is there")
        assert (await running.post(CHAT)).status == 401
        await asyncio.sleep(0.3)
    assert {report.total for report in hears.reports} == {0}


async def test_a_service_that_was_scaled_to_zero_is_known_before_a_request_fails(
    engine: Engine, tmp_path: Path
) -> None:
    """A router without engines takes half a second to refuse a request; the operator's word spares that."""
    engine.ready = False
    async with operator(tmp_path) as (hears, target):
        hears.ready = 0
        async with gateway(engine, demand=target) as running:
            await until(lambda: hears.reports, what="the operator has said that none is ready")
            await asyncio.sleep(0.05)
            task = asyncio.create_task(running.post(CHAT))
            await until(lambda: hears.reports[-1].waiting == 1, what="it waits")
            engine.ready = True
            assert (await task).status == 200
    assert len(engine.seen) == 1


async def test_a_gateway_serves_without_the_operator(engine: Engine, tmp_path: Path) -> None:
    target: Any = {"url": "https://127.0.0.1:1/x", "tokenPath": str(tmp_path / "no"), "caPath": str(tmp_path / "ca")}
    async with gateway(engine, demand=target) as running:
        assert (await running.post(CHAT)).status == 200


async def test_an_operator_that_refuses_is_told_again(engine: Engine, tmp_path: Path) -> None:
    async with operator(tmp_path) as (hears, target), gateway(engine, demand=target):
        hears.status = 500
        await until(lambda: len(hears.reports) >= 2, what="it is told again")


def test_idleness_begins_with_the_end_of_the_last_request() -> None:
    now = 100.0
    demand = Demand(pod="p", clock=lambda: now)
    now = 104.0
    assert demand.report(waiting=0).idle_seconds == 4
    with demand.counted(), demand.counted():
        assert (demand.report(waiting=1).running, demand.report(waiting=1).idle_seconds) == (1, 0)
    now = 105.5
    assert (demand.report(waiting=0).idle_seconds, demand.report(waiting=0).total) == (1.5, 2)
