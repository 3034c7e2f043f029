"""Whether this replica is alive (/healthz) and of use (/readyz), and its metrics (/metrics), over plain HTTP.

Alive: every watch has been heard of lately, the lease has been renewed or asked for and, while leading, the loop takes
what is due. A replica that isn't gets restarted by kubelet. Ready: the caches are filled; a standby is ready too, since
it takes and passes on reports.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from lmforge_operator import metrics
from lmforge_operator.kube.informer import STALLED_SECONDS, Informer

LOOP_STALLED_SECONDS = 90.0


@dataclass(frozen=True)
class Health:
    """Looks at the parts; each finding is a sentence."""

    informers: Iterable[Informer]
    waiting: Callable[[], float]
    """Seconds that the first due key has waited while this replica leads."""
    idle: Callable[[], float]
    """Seconds since the loop last took or finished something."""
    out_of_office: Callable[[], float]
    """Seconds since it last led or ran for office."""

    def dead(self) -> list[str]:
        """What should get this replica restarted."""
        silent = [informer for informer in self.informers if informer.silence() > STALLED_SECONDS]
        found = [f"the watch of {i.resource.plural} has been silent for {i.silence():.0f} s" for i in silent]
        if min(self.waiting(), self.idle()) > LOOP_STALLED_SECONDS:
            found.append(f"the loop has taken nothing for {self.idle():.0f} s")
        if self.out_of_office() > STALLED_SECONDS:
            found.append(f"it has neither led nor run for office for {self.out_of_office():.0f} s")
        return found

    def unready(self) -> list[str]:
        """What is still missing."""
        return [f"{i.resource.plural} are not listed yet" for i in self.informers if not i.synced]


def application(health: Health) -> web.Application:
    """/healthz, /readyz, /metrics."""

    async def healthz(_: web.Request) -> web.Response:
        return _verdict(health.dead())

    async def readyz(_: web.Request) -> web.Response:
        return _verdict(health.unready())

    async def prometheus(_: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", prometheus)
    return app


def _verdict(found: list[str]) -> web.Response:
    return web.Response(status=503, text="\n".join(found)) if found else web.Response(text="ok")
