"""The loop on a real API server, with a toy kind's story in the place of the real one: what wakes it."""

import asyncio
import itertools

import aiohttp
import pytest
from apiserver import ApiServer
from loop_world import running
from real_api import Manifest, config_map, eventually, new_namespace, open_kube, training_job

from lmforge_operator.engine.context import Context
from lmforge_operator.engine.objects import Objects
from lmforge_operator.kube.resources import CONFIG_MAPS, TRAINING_JOBS, Key

pytestmark = pytest.mark.integration


async def test_a_story_runs_when_its_object_is_made_and_again_when_it_says(api_server: ApiServer) -> None:
    times: list[float] = []

    async def story(context: Context, manifest: Manifest) -> float | None:
        times.append(asyncio.get_running_loop().time())
        return 0.3 if len(times) < 3 else None

    async with running(api_server, story) as world:
        await world.create()
        await eventually(lambda: len(times) == 3)
        await asyncio.sleep(0.5)
    assert len(times) == 3
    assert all(later - earlier >= 0.25 for earlier, later in itertools.pairwise(times))


async def test_its_own_status_write_wakes_no_story(api_server: ApiServer) -> None:
    runs: list[str] = []

    async def story(context: Context, manifest: Manifest) -> None:
        meta = manifest["metadata"]
        runs.append(manifest.get("status", {}).get("phase", ""))
        status = {"phase": "Running"}
        if manifest.get("status", {}).get("phase") != "Running":
            await context.kube.write_status(TRAINING_JOBS, meta["namespace"], meta["name"], status, uid=meta["uid"])

    async with running(api_server, story) as world:
        await world.create()
        await eventually(lambda: runs)
        await asyncio.sleep(1)
    assert runs[0] == ""
    assert len(runs) <= 2  # the watch may bring the change before the answer to the write is there


async def test_a_change_of_a_child_wakes_its_owner(api_server: ApiServer) -> None:
    seen: list[list[str]] = []

    async def story(context: Context, manifest: Manifest) -> None:
        seen.append([child["metadata"]["name"] for child in context.config_maps.owned_by(manifest["metadata"]["uid"])])

    async with running(api_server, story) as world:
        made = await world.create()
        await eventually(lambda: seen)
        await world.kube.create(CONFIG_MAPS, config_map(world.namespace, "child", owner=made["metadata"]["uid"]))
        await eventually(lambda: seen[-1] == ["child"])
        await world.kube.delete(CONFIG_MAPS, world.namespace, "child")
        await eventually(lambda: seen[-1] == [])


async def test_an_object_that_waits_for_another_is_woken_by_it(api_server: ApiServer) -> None:
    seen: list[bool] = []

    async def story(context: Context, manifest: Manifest) -> None:
        if manifest["metadata"]["name"] == "waits":
            seen.append(context.objects.get(Key("TrainingJob", manifest["metadata"]["namespace"], "base")) is not None)

    async with running(api_server, story) as world:
        spec = {"model": {"from": {"kind": "TrainingJob", "name": "base"}}}
        await world.kube.create(TRAINING_JOBS, training_job(world.namespace, "waits", **spec))
        await eventually(lambda: seen == [False])
        await world.create("base")
        await eventually(lambda: seen[-1])


async def test_what_the_operator_itself_writes_of_an_object_wakes_those_that_wait_for_it(api_server: ApiServer) -> None:
    """No watch runs here: the answer to a write may be all that ever tells of it, since its echo is no news."""
    woken: list[str] = []
    namespace = new_namespace(api_server, "loop")
    async with open_kube(api_server) as kube:
        objects = Objects(kube, [TRAINING_JOBS], wake=lambda key: woken.append(key.name))
        base = await kube.create(TRAINING_JOBS, training_job(namespace, "base"))
        spec = {"model": {"from": {"kind": "TrainingJob", "name": "base"}}}
        await kube.create(TRAINING_JOBS, training_job(namespace, "waits", **spec))
        assert base is not None
        assert woken == []
        status = {"phase": "Succeeded"}
        await kube.write_status(TRAINING_JOBS, namespace, "base", status, uid=base["metadata"]["uid"])
        assert objects.get(Key("TrainingJob", namespace, "base")) is not None
    assert woken == ["waits"]


async def test_a_deleted_object_is_forgotten(api_server: ApiServer) -> None:
    async def story(context: Context, manifest: Manifest) -> float:
        return 3600.0

    async with running(api_server, story) as world:
        await world.create()
        key = Key("TrainingJob", world.namespace, "tiny")
        await eventually(lambda: world.runtime.queue.depths()["delayed"] == 1)
        await world.kube.delete(TRAINING_JOBS, world.namespace, "tiny")
        await eventually(lambda: world.runtime.objects.get(key) is None)
        await eventually(lambda: len(world.runtime.queue) == 0)


async def test_an_object_that_went_while_nobody_watched_is_forgotten(api_server: ApiServer) -> None:
    async def story(context: Context, manifest: Manifest) -> None:
        return None

    namespace = new_namespace(api_server, "loop")
    ghost = training_job(namespace, "ghost")
    ghost["metadata"] |= {"uid": "gone", "resourceVersion": "1"}
    async with running(api_server, story, namespace, remembers=ghost) as world:
        await world.create("real")
        await eventually(lambda: world.runtime.objects.get(Key("TrainingJob", namespace, "real")))
        assert world.runtime.objects.get(Key("TrainingJob", namespace, "ghost")) is None


async def test_probes_and_metrics_tell_how_it_is(api_server: ApiServer) -> None:
    async def story(context: Context, manifest: Manifest) -> None:
        return None

    async with running(api_server, story) as world, aiohttp.ClientSession() as session:
        await world.create()
        await eventually(
            lambda: (
                world.runtime.elector.leads
                and all(informer.synced for informer in world.runtime.context.informers)
                and world.runtime.objects.get(Key("TrainingJob", world.namespace, "tiny"))
            )
        )
        url = f"http://127.0.0.1:{world.runtime.http_port}"
        for path in ("healthz", "readyz"):
            async with session.get(f"{url}/{path}") as answer:
                assert (answer.status, await answer.text()) == (200, "ok")
        async with session.get(f"{url}/metrics") as answer:
            text = await answer.text()
    assert 'lmforge_objects{kind="TrainingJob",phase="Pending"} 1.0' in text
    assert "lmforge_leader 1.0" in text
    assert 'lmforge_watch_age_seconds{resource="pods"}' in text
