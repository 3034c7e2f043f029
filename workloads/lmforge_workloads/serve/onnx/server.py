"""uvicorn with a drain that Kubernetes can follow.

On SIGTERM requests that are there go on, for `shutdown_timeout` seconds at most, and new ones get 503: the socket stays
open meanwhile, so that whoever hasn't heard of it yet gets an answer that says where to go.
"""

import asyncio
import logging
import socket
from types import FrameType

import uvicorn

from lmforge_workloads.serve import listening
from lmforge_workloads.serve.errors import Unavailable
from lmforge_workloads.serve.onnx import app
from lmforge_workloads.serve.onnx.app import Engine

log = logging.getLogger(__name__)

_LAST_BYTES_SECONDS = 5
_STOPPED = Unavailable("The engine was stopped before the answer's end: ask again")


class Server(uvicorn.Server):
    """The engine on its port."""

    def __init__(self, engine: Engine, *, host: str, port: int, shutdown_timeout: float) -> None:
        self._engine = engine
        self._shutdown_timeout = shutdown_timeout
        self._loop = asyncio.get_running_loop()
        self._drain_task: asyncio.Task[None] | None = None
        super().__init__(
            listening.config(
                app.create(engine), host=host, port=port, shutdown_seconds=_LAST_BYTES_SECONDS, lifespan=False
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens, and says where."""
        await super().startup(sockets)
        port = listening.port_of(self) if self.started else None
        log.info("listening", extra={"port": port, "model": self._engine.name, "context": self._engine.model.context})

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A first signal drains, a second one ends at once."""
        if self._engine.draining:
            self._engine.scheduler.stop(_STOPPED)
            self.should_exit = self.force_exit = True
        self._engine.draining = True
        self._loop.call_soon_threadsafe(self._begin_drain)

    def _begin_drain(self) -> None:
        log.info("draining", extra={"seconds": self._shutdown_timeout})
        self._drain_task = self._loop.create_task(self._drain())

    async def _drain(self) -> None:
        await asyncio.to_thread(self._engine.scheduler.wait_idle, seconds=self._shutdown_timeout)
        self._engine.scheduler.stop(_STOPPED)
        self.should_exit = True
