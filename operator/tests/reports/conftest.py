"""A namespace with pods that may report, and the replica that leads."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from apiserver import ApiServer
from endpoint_world import Replica, World
from real_api import open_kube

from lmforge_operator.kube.client import Kube


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def kube(api_server: ApiServer, stack: AsyncExitStack) -> Kube:
    return await stack.enter_async_context(open_kube(api_server))


@pytest.fixture
async def world(api_server: ApiServer, kube: Kube, tmp_path: Path) -> World:
    world = World(api_server, tmp_path)
    api_server.request(
        "POST", f"/api/v1/namespaces/{world.namespace}/serviceaccounts", {"metadata": {"name": "default"}}
    )
    await world.add(kube, "mine")
    await world.add(kube, "other")
    return world


@pytest.fixture
async def leader(world: World, kube: Kube, stack: AsyncExitStack) -> Replica:
    return await Replica(world, kube, leads=True).start(stack)
