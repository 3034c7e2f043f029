"""uvicorn as our servers run it: few dials, our own logs, and connections that whoever calls closes first."""

import uvicorn
from starlette.types import ASGIApp

_KEEP_ALIVE_SECONDS = 75  # longer than load balancers and routers keep idle connections
_BACKLOG = 4096


def config(app: ASGIApp, *, host: str, port: int, shutdown_seconds: int, lifespan: bool) -> uvicorn.Config:
    """`shutdown_seconds`: how long requests may take to end once the socket is closed. `lifespan`: the app wants to
    hear of start and end."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http="httptools",
        ws="none",
        lifespan="on" if lifespan else "off",
        access_log=False,
        server_header=False,
        log_config=None,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=shutdown_seconds,
    )


def port_of(server: uvicorn.Server) -> int:
    """Where it listens, once it does."""
    return int(server.servers[0].sockets[0].getsockname()[1])
