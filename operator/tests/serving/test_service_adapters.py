"""Adapters of running services: the real operator, a real API server, and stand-ins for engines at real addresses."""

import json
from collections.abc import AsyncIterator
from itertools import count

import pytest
from cluster_player import ClusterPlayer, Manifest
from lora_engine import LoraEngine, lora_engine
from operator_process import condition, serve
from real_api import eventually

from lmforge_operator.kube.resources import CONFIG_MAPS, PODS

pytestmark = pytest.mark.integration

_NETWORKS = count(1)
ROOM = {"engineArgs": {"lora": {}}}
LEGAL = {"name": "legal", "uri": "file:///adapters/legal"}
TONE = {"name": "tone", "uri": "file:///adapters/tone"}
BROKEN = {"name": "broken", "uri": "file:///adapters/broken"}


@pytest.fixture
async def engines() -> AsyncIterator[list[LoraEngine]]:
    """At addresses that no other test's service has."""
    network = f"127.77.{next(_NETWORKS)}"
    async with lora_engine(f"{network}.1") as first, lora_engine(f"{network}.2") as second:
        yield [first, second]


async def serve_on(player: ClusterPlayer, engines: list[LoraEngine], name: str, **spec: object) -> str:
    """A ready service with a replica at each engine; gives its revision."""
    revision = await serve(player, name, ready=len(engines), replicas=len(engines), **spec)
    await place(player, revision, engines)
    return revision


async def place(player: ClusterPlayer, revision: str, engines: list[LoraEngine]) -> None:
    """The revision's pods have the engines' addresses."""
    for pod, engine in zip(await player.engines(revision), engines, strict=True):
        await player.ready(pod["metadata"]["name"], address=engine.address)


async def until_loaded(player: ClusterPlayer, name: str, **loaded: str) -> list[Manifest]:
    """Waits until status says of each of these adapters, and no others, that so many replicas have it."""

    async def reached() -> list[Manifest] | None:
        adapters = ((await player.service(name)).get("status") or {}).get("adapters") or []
        return [True, adapters] if {each["name"]: each["loaded"] for each in adapters} == loaded else None

    return (await eventually(reached, seconds=30))[1]


async def test_adapters_come_into_running_replicas_and_go_out_of_them_without_new_pods(
    player: ClusterPlayer, engines: list[LoraEngine]
) -> None:
    revision = await serve_on(player, engines, "hot", **ROOM)
    pods = await player.engines(revision)
    await player.change("hot", adapters=[LEGAL, TONE])
    adapters = await until_loaded(player, "hot", legal="2/2", tone="2/2")
    assert adapters[0] == {"name": "legal", "source": LEGAL["uri"], "uri": LEGAL["uri"], "loaded": "2/2"}
    assert all(engine.loaded == {"legal": "/adapters/legal", "tone": "/adapters/tone"} for engine in engines)
    status = await player.until("hot", phase="Ready", currentRevision=revision)
    assert condition(status, "AdaptersReady") == ("True", "Ready")
    await player.change("hot", adapters=[TONE])
    await until_loaded(player, "hot", tone="2/2")
    await eventually(lambda: all(engine.loaded == {"tone": "/adapters/tone"} for engine in engines))
    assert [each["metadata"]["uid"] for each in await player.engines(revision)] == [
        each["metadata"]["uid"] for each in pods
    ]


async def test_a_broken_adapter_is_an_error_on_that_adapter_alone(
    player: ClusterPlayer, engines: list[LoraEngine]
) -> None:
    await serve_on(player, engines, "partly", **ROOM)
    missing = {"name": "missing", "from": {"kind": "FineTune", "name": "nowhere"}}
    await player.change("partly", adapters=[BROKEN, LEGAL, missing])
    _, _, lost = await until_loaded(player, "partly", broken="0/2", legal="2/2", missing="0/2")
    assert lost["message"] == "Waits for FineTune nowhere: it does not exist in this namespace."
    status = await player.until("partly", phase="Ready")
    broken = (await eventually(lambda: said(player, "partly", "broken")))["message"]
    assert (
        broken
        == "Can't be loaded: file:///adapters/broken: there is no adapter (adapter_config.json): correct its uri."
    )
    assert condition(status, "AdaptersReady") == ("False", "AdapterNotLoaded")
    await player.change("partly", adapters=[{**BROKEN, "uri": "file:///adapters/mended"}, LEGAL])
    await until_loaded(player, "partly", broken="2/2", legal="2/2")


async def said(player: ClusterPlayer, name: str, adapter: str) -> Manifest | None:
    """An adapter's status, once it has a message."""
    adapters = (await player.service(name))["status"].get("adapters") or []
    return next((each for each in adapters if each["name"] == adapter and each.get("message")), None)


async def test_other_weights_of_an_adapter_are_tried_before_the_former_ones_go(
    player: ClusterPlayer, engines: list[LoraEngine]
) -> None:
    await serve_on(player, engines, "newer", adapters=[LEGAL])
    await until_loaded(player, "newer", legal="2/2")
    await player.change("newer", adapters=[{**LEGAL, "uri": "file:///adapters/broken"}])
    assert "The former weights are kept." in (await eventually(lambda: said(player, "newer", "legal")))["message"]
    assert all(engine.loaded == {"legal": "/adapters/legal"} for engine in engines), "the former ones still serve"
    await player.change("newer", adapters=[{**LEGAL, "uri": "file:///adapters/legal-2"}])
    await until_loaded(player, "newer", legal="2/2")
    assert all(engine.loaded == {"legal": "/adapters/legal-2"} for engine in engines)


async def test_a_replica_that_started_again_is_given_its_adapters_and_a_new_one_finds_them_before_it_serves(
    player: ClusterPlayer, engines: list[LoraEngine]
) -> None:
    revision = await serve_on(player, engines, "again", adapters=[LEGAL])
    await until_loaded(player, "again", legal="2/2")
    config = await player.kube.get(CONFIG_MAPS, player.namespace, "again-adapters")
    assert config is not None
    assert json.loads(config["data"]["adapters.json"]) == {"legal": "/adapters/legal"}
    engines[0].loaded.clear()
    await eventually(lambda: engines[0].loaded == {"legal": "/adapters/legal"})
    (first, _) = await player.engines(revision)
    volumes = [volume.get("configMap", {}).get("name") for volume in first["spec"]["volumes"]]
    assert "again-adapters" in volumes
    await player.kube.delete(PODS, player.namespace, first["metadata"]["name"], grace_seconds=0)
    await until_loaded(player, "again", legal="1/1")
    await player.all_ready(revision, 2)
    await place(player, revision, engines)
    await until_loaded(player, "again", legal="2/2")


async def test_the_first_adapter_of_a_service_makes_a_revision_that_takes_adapters(
    player: ClusterPlayer, engines: list[LoraEngine]
) -> None:
    old = await serve_on(player, engines[:1], "first-one")
    await player.change("first-one", adapters=[LEGAL])
    status = await player.until("first-one", phase="Updating", currentRevision=old)
    new = status["updateRevision"]
    assert engines[0].calls == [], "replicas of the former revision take none"
    await player.all_ready(new, 1)
    await place(player, new, engines[:1])
    await until_loaded(player, "first-one", legal="1/1")
    await player.change("first-one", adapters=[LEGAL, TONE])
    await until_loaded(player, "first-one", legal="1/1", tone="1/1")
    await player.until("first-one", phase="Ready", currentRevision=new)
