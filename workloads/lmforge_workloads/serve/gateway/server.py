"""uvicorn with a drain that Kubernetes can follow.

On SIGTERM /readyz fails at once, but requests go on being taken for `unreadySeconds`: whoever sends them needs so long
to hear of it. Then the listening socket closes, and what runs has `drainSeconds` to come to its end.
"""

import asyncio
import logging
import math
import socket
from types import FrameType

import uvicorn

from lmforge_api.gateway_run import GatewayRun
from lmforge_workloads.serve import listening
from lmforge_workloads.serve.gateway import app
from lmforge_workloads.serve.gateway.wiring import Gatehouse

log = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """The gateway on its port. To be made within a running loop."""

    def __init__(self, run: GatewayRun, *, pod: str) -> None:
        self.house = Gatehouse(run, pod=pod)
        self._loop = asyncio.get_running_loop()
        super().__init__(
            listening.config(
                app.create(self.house),
                host=run.listen.host,
                port=run.listen.port,
                shutdown_seconds=math.ceil(run.drain_seconds),
                lifespan=True,
            )
        )

    @property
    def port(self) -> int:
        """Where it listens, once it does."""
        return listening.port_of(self)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens, and says where."""
        await super().startup(sockets)
        where = {"port": self.port, "metrics_port": self.house.metrics_port, "upstream": self.house.run.upstream.url}
        log.info("listening", extra=where)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A first signal drains, a second one ends at once."""
        if self.house.draining:
            self.should_exit = self.force_exit = True
        self.house.draining = True
        self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        run = self.house.run
        log.info("draining", extra={"unready_seconds": run.unready_seconds, "drain_seconds": run.drain_seconds})
        self._loop.call_later(run.unready_seconds, self._close)

    def _close(self) -> None:
        self.should_exit = True


async def serve(run: GatewayRun, *, pod: str) -> None:
    """Until SIGTERM, and then until what runs has ended."""
    await Server(run, pod=pod).serve()
