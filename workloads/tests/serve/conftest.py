"""Parts of the gateway's tests: an engine's stand-in, and a real Redis."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from engine_stub import Engine
from engine_stub import engine as running_engine
from redis.asyncio import Redis
from redis_server import RedisServer


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with running_engine() as stub:
        yield stub


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    """A client of an empty database."""
    client = Redis.from_url(redis_server.url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def keys_path(tmp_path: Path) -> Path:
    return tmp_path / "keys"
