"""The operator and the player of its cluster, for the tests of services."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import pytest
from apiserver import ApiServer
from cluster_player import ClusterPlayer
from operator_process import Operator, running_operator
from real_api import open_kube


@pytest.fixture(scope="module")
def operator(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    with running_operator(api_server, tmp_path_factory.mktemp("serving")) as running:
        yield running


@pytest.fixture
async def player(api_server: ApiServer, operator: Operator) -> AsyncIterator[ClusterPlayer]:
    async with open_kube(api_server) as kube:
        player = ClusterPlayer(kube, operator.namespace)
        playing = asyncio.create_task(player.play())
        yield player
        playing.cancel()
        with suppress(asyncio.CancelledError):
            await playing
