"""The loop on a real API server: what a story that fails, is refused or hangs leads to."""

import asyncio

import pytest
from apiserver import ApiServer
from loop_world import running
from real_api import Manifest, config_map, eventually

from lmforge_operator.engine.context import Context
from lmforge_operator.errors import UserError
from lmforge_operator.kube.resources import CONFIG_MAPS

pytestmark = pytest.mark.integration


async def test_a_poison_object_does_not_stop_the_others(api_server: ApiServer) -> None:
    poisoned = 0
    good: set[str] = set()

    async def story(context: Context, manifest: Manifest) -> None:
        nonlocal poisoned
        name = manifest["metadata"]["name"]
        if name.startswith("poison"):
            poisoned += 1
            raise ZeroDivisionError("a bug")
        good.add(name)

    async with running(api_server, story) as world:
        for name in ("poison-1", "poison-2", "poison-3", "good-1", "good-2", "good-3", "good-4"):
            await world.create(name)
        await eventually(lambda: len(good) == 4)
        condition = await world.condition("poison-1")
        assert condition["status"] == "False"
        assert condition["reason"] == "OperatorBug"
        assert "ZeroDivisionError: a bug" in condition["message"]
        await eventually(lambda: poisoned > 6)  # it is tried again, with backoff

        def said() -> int:
            return api_server.kubectl("get", "events", "-n", world.namespace).count("OperatorBug")

        await eventually(lambda: said() >= 3)
        assert said() == 3  # one for each, however often it failed


async def test_the_condition_goes_when_the_trouble_does(api_server: ApiServer) -> None:
    broken = True

    async def story(context: Context, manifest: Manifest) -> None:
        if broken:
            raise RuntimeError("not yet")

    async with running(api_server, story) as world:
        await world.create()
        await world.condition()
        broken = False
        await eventually(world.has_no_condition)


async def test_a_users_error_is_said_once_and_not_tried_again_until_something_changes(api_server: ApiServer) -> None:
    runs = 0

    async def story(context: Context, manifest: Manifest) -> None:
        nonlocal runs
        runs += 1
        if not manifest["spec"].get("suspend"):
            raise UserError("The dataset is empty: name another.", reason="EmptyDataset")

    async with running(api_server, story) as world:
        await world.create()
        condition = await world.condition()
        assert condition["reason"] == "EmptyDataset"
        settled = runs
        await asyncio.sleep(1)
        assert runs <= settled + 1
        api_server.kubectl(
            "patch", "tj", "tiny", "-n", world.namespace, "--type=merge", "-p", '{"spec":{"suspend":true}}'
        )
        await eventually(world.has_no_condition)


async def test_what_the_api_server_refuses_is_said_and_tried_again_slowly(api_server: ApiServer) -> None:
    runs = 0

    async def story(context: Context, manifest: Manifest) -> None:
        nonlocal runs
        runs += 1
        await context.kube.create(CONFIG_MAPS, config_map(manifest["metadata"]["namespace"], "Not A Name"))

    async with running(api_server, story) as world:
        await world.create()
        condition = await world.condition()
        assert condition["reason"] == "Refused"
        assert "Not A Name" in condition["message"]
        await asyncio.sleep(1)
        assert runs <= 2


async def test_a_story_that_hangs_is_cut_off_and_others_go_on(api_server: ApiServer) -> None:
    done: list[str] = []

    async def story(context: Context, manifest: Manifest) -> None:
        name = manifest["metadata"]["name"]
        if name == "hangs":
            await asyncio.sleep(3600)
        done.append(name)

    async with running(api_server, story) as world:
        await world.create("hangs")
        await world.create("goes-on")
        await eventually(lambda: done == ["goes-on"])
