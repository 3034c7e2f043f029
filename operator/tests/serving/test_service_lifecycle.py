"""The real operator process and a real API server; the test plays the Deployment controller, kubelets and engines."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from apiserver import ApiServer
from cluster_player import ClusterPlayer
from operator_process import Operator, condition, demand, serve
from real_api import eventually, inference_service

from lmforge_api.inspection import Inspection
from lmforge_operator.kube.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    INFERENCE_SERVICES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    ROLE_BINDINGS,
    ROLES,
    SERVICE_ACCOUNTS,
    SERVICES,
)

pytestmark = pytest.mark.integration

ENGINE = "127.77.0.1"
"""A loopback address of the test's own: engines listen on port 8000."""


async def test_a_service_gets_engines_a_router_and_a_url_and_is_available_once_an_engine_is_ready(
    player: ClusterPlayer,
) -> None:
    await player.kube.create(INFERENCE_SERVICES, inference_service(player.namespace, "first", replicas=2))
    status = await player.until("first", phase="Loading")
    revision = status["updateRevision"]
    assert condition(status, "Available") == ("False", "Loading")
    await player.all_ready(revision, 2)
    status = await player.until("first", phase="Ready", ready="2/2")
    assert condition(status, "Available")[0] == "True"
    assert status["url"] == f"http://first.{player.namespace}.svc/v1"
    assert status["currentRevision"] == revision
    service = await player.kube.get(SERVICES, player.namespace, "first")
    assert service is not None
    router = await player.kube.get(DEPLOYMENTS, player.namespace, "first-router")
    assert router is not None
    assert service["spec"]["selector"] == router["spec"]["selector"]["matchLabels"]
    assert await player.kube.get(ROLE_BINDINGS, player.namespace, "first-router")
    scale = await player.kube.transport.send("GET", INFERENCE_SERVICES.path(player.namespace, "first", "scale"))
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (2, 2)
    selector = dict(each.split("=") for each in scale["status"]["selector"].split(","))
    assert all(pod["metadata"]["labels"].items() >= selector.items() for pod in await player.engines(revision))


async def test_a_new_template_surges_takes_over_replica_by_replica_and_the_old_one_goes(player: ClusterPlayer) -> None:
    old = await serve(player, "rolling", ready=2, replicas=2)
    await player.change("rolling", template={"labels": {"example.org/wave": "2"}})
    status = await player.until("rolling", phase="Updating", currentRevision=old, ready="0/2")
    new = status["updateRevision"]
    assert await player.deployments() | {old: 2, new: 1} == await player.deployments()
    assert condition(status, "Available")[0] == "True"
    (first,) = await eventually(lambda: player.engines(new))
    await player.ready(first["metadata"]["name"])
    await player.until("rolling", ready="1/2", currentRevision=old)
    await player.all_ready(new, 2)
    status = await player.until("rolling", phase="Ready", ready="2/2", currentRevision=new)

    async def old_is_gone() -> bool:
        return old not in await player.deployments() and not await player.engines(old)

    await eventually(old_is_gone, seconds=30)


async def test_a_revision_that_ends_again_and_again_is_rolled_back_and_its_correction_taken(
    player: ClusterPlayer,
) -> None:
    old = await serve(player, "backing")
    await player.change("backing", engineArgs={"maxModelLen": 999_999})
    new = (await player.until("backing", phase="Updating"))["updateRevision"]
    (pod,) = await eventually(lambda: player.engines(new))
    words = "Traceback\nValueError: User-specified max_model_len (999999) is greater than 2048\nshutting down"
    await player.crash(pod["metadata"]["name"], times=1, code=1, words=words)
    status = await player.until("backing", phase="Degraded", reason="CrashLoop")
    assert "max_model_len (999999) is greater than 2048" in status["message"]
    assert status["currentRevision"] == old
    await player.crash(pod["metadata"]["name"], times=3, code=1, words=words)
    status = await player.until("backing", failedRevision__revision=new, ready="0/1")
    assert condition(status, "Available")[0] == "True"
    assert condition(status, "Degraded") == ("True", "CrashLoop")
    assert f"Revision {old} keeps serving" in status["message"]

    async def withdrawn() -> bool:
        return not await player.engines(new)

    await eventually(withdrawn)
    assert len(await player.engines(old)) == 1
    await player.change("backing", engineArgs={"maxModelLen": 1024})
    right = (await player.until("backing", phase="Updating"))["updateRevision"]
    await player.all_ready(right, 1)
    status = await player.until("backing", phase="Ready", ready="1/1", currentRevision=right)
    assert "failedRevision" not in status


async def test_a_model_that_nothing_can_load_is_refused_before_a_pod_starts_and_the_one_that_works_keeps_serving(
    player: ClusterPlayer,
) -> None:
    broken = "pvc://models/broken"
    player.files[broken] = Inspection(problem=f"{broken} has no config.json")
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "models", "namespace": player.namespace},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    await player.kube.create(PERSISTENT_VOLUME_CLAIMS, claim)
    old = await serve(player, "picky", model={"uri": "pvc://models/right"})
    assert (await player.until("picky", phase="Ready"))["model"]["format"] == "HuggingFace"
    await player.change("picky", model={"uri": broken})
    status = await player.until("picky", phase="Updating", reason="UnreadableModel", currentRevision=old)
    assert status["message"] == (
        f"The model can't be loaded: {broken} has no config.json. Revision {old} keeps serving."
    )
    assert condition(status, "InputsReady") == ("False", "UnreadableModel")
    assert list(await player.engines(old))
    await player.change("picky", model={"uri": "pvc://models/right"})
    await player.until("picky", phase="Ready", ready="1/1", currentRevision=old)


async def test_an_idle_service_goes_to_zero_and_a_held_request_wakes_it(
    api_server: ApiServer, player: ClusterPlayer, operator: Operator
) -> None:
    scaling = {"minReplicas": 0, "maxReplicas": 2, "scaleDownDelaySeconds": 1}
    async with engines({}):
        revision = await serve(player, "sleepy", autoscaling=scaling)
        config = await player.kube.get(CONFIG_MAPS, player.namespace, "sleepy-gateway")
        assert config is not None
        assert f"http://sleepy-router.{player.namespace}.svc:80" in config["data"]["gateway.json"]
        (gateway,) = await player.pods_of("sleepy-gateway")
        await demand(api_server, player, operator, gateway, waiting=0)
        for pod in await player.engines(revision):
            await player.ready(pod["metadata"]["name"], address=ENGINE)
        status = await player.until("sleepy", phase="Idle", replicas__desired=0, replicas__total=0)
        assert condition(status, "Available") == ("True", "ScaledToZero")
        await demand(api_server, player, operator, gateway, waiting=1)
        status = await player.until("sleepy", replicas__desired=1)
        assert status["scaling"]["last"][-1]["why"] == "1 requests wait, target 2"
        await player.all_ready(revision, 1)


async def test_a_queue_adds_replicas_and_status_shows_what_engines_measure(player: ClusterPlayer) -> None:
    gauges = {"vllm:num_requests_waiting": 0.0, "vllm:num_requests_running": 1.0, "vllm:generation_tokens_total": 0.0}
    async with engines(gauges):
        scaling = {"minReplicas": 1, "maxReplicas": 3, "targets": {"waitingRequests": 2}}
        revision = await serve(player, "busy", autoscaling=scaling)
        (pod,) = await player.engines(revision)
        await player.ready(pod["metadata"]["name"], address=ENGINE)
        gauges["vllm:num_requests_waiting"] = 5.0
        status = await player.until("busy", replicas__desired=2)
        assert status["scaling"]["last"][-1]["why"] == "5 requests wait, target 2"
        gauges["vllm:generation_tokens_total"] = 1e6
        await eventually(lambda: shown(player, "busy"), seconds=30)


async def shown(player: ClusterPlayer, name: str) -> str:
    status = (await player.service(name))["status"]
    return str((status.get("performance") or {}).get("tokensPerSecond", "0")).rstrip("0")


async def test_a_stopped_service_has_no_pods_and_comes_back(player: ClusterPlayer) -> None:
    revision = await serve(player, "paused")
    await player.change("paused", stopped=True)
    await player.until("paused", phase="Stopped", ready="0/0")

    async def empty() -> bool:
        return not (await player.engines(revision) + await player.pods_of("paused-router"))

    await eventually(empty)
    await player.change("paused", stopped=False)
    await player.all_ready(revision, 1)
    await player.until("paused", phase="Ready")


async def test_a_gateway_takes_over_from_the_router_only_when_it_is_ready(player: ClusterPlayer) -> None:
    async def front() -> str:
        service = await player.kube.get(SERVICES, player.namespace, "keys")
        return str(service["spec"]["selector"]["lmforge.dev/role"]) if service else ""

    async def at_gateway() -> bool:
        return await front() == "gateway"

    async def at_router() -> bool:
        return await front() == "router" and not await player.kube.get(DEPLOYMENTS, player.namespace, "keys-gateway")

    await serve(player, "keys")
    assert await front() == "router"
    await player.change("keys", gateway={"auth": {"secretName": "keys"}})
    await eventually(at_gateway, seconds=30)
    await player.change("keys", gateway=None)
    await eventually(at_router, seconds=30)


async def test_a_name_that_somebody_else_uses_is_left_alone_and_said(player: ClusterPlayer) -> None:
    theirs = {"metadata": {"name": "taken", "namespace": player.namespace}, "spec": {"ports": [{"port": 1}]}}
    await player.kube.create(SERVICES, {"apiVersion": "v1", "kind": "Service", **theirs})
    await player.kube.create(INFERENCE_SERVICES, inference_service(player.namespace, "taken"))

    async def said() -> str | None:
        conditions = ((await player.service("taken")).get("status") or {}).get("conditions") or ()
        return next((each["message"] for each in conditions if each["reason"] == "NameTaken"), None)

    assert "Service taken exists already" in await eventually(said)
    service = await player.kube.get(SERVICES, player.namespace, "taken")
    assert service is not None
    assert "selector" not in service["spec"]


async def test_a_service_made_anew_waits_until_the_children_of_the_former_one_are_gone(player: ClusterPlayer) -> None:
    revision = await serve(player, "again")
    former = (await player.service("again"))["metadata"]["uid"]
    await player.kube.delete(INFERENCE_SERVICES, player.namespace, "again")
    await player.kube.create(INFERENCE_SERVICES, inference_service(player.namespace, "again"))
    await asyncio.sleep(1)
    router = await player.kube.get(DEPLOYMENTS, player.namespace, "again-router")
    assert router is not None
    assert router["metadata"]["ownerReferences"][0]["uid"] == former
    # What the garbage collector would do.
    for resource, name in (
        (ROLE_BINDINGS, "again-router"),
        (ROLES, "again-router"),
        (SERVICE_ACCOUNTS, "again-router"),
        (DEPLOYMENTS, "again-router"),
        (DEPLOYMENTS, revision),
        (SERVICES, "again"),
    ):
        await player.kube.delete(resource, player.namespace, name)
    for pod in await player.engines(revision):
        await player.kube.delete(PODS, player.namespace, pod["metadata"]["name"], grace_seconds=0)
    await player.all_ready(revision, 1)
    await player.until("again", phase="Ready", ready="1/1")


@asynccontextmanager
async def engines(gauges: dict[str, float]) -> AsyncIterator[None]:
    """All engines at one address: what they measure is what `gauges` says at the moment."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text="".join(f"{name} {value}\n" for name, value in gauges.items()))

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, ENGINE, 8000, reuse_port=True).start()
    try:
        yield
    finally:
        await runner.cleanup()


async def test_replicas_of_several_pods_without_leader_worker_set_say_what_to_install(player: ClusterPlayer) -> None:
    spec = {"nodes": 2, "parallelism": {"tensor": 2}}
    await player.kube.create(INFERENCE_SERVICES, inference_service(player.namespace, "wide", **spec))
    status = await player.until("wide", reason="NotInstalled")
    assert status["message"] == (
        "Nodes is 2, and replicas of several pods need LeaderWorkerSet, which is not known here: install it "
        "(lws.sigs.k8s.io), or write nodes: 1."
    )
