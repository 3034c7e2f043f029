"""Makes a gateway's parts from its configuration, and runs what goes on beside requests."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis

from lmforge_api.gateway import Redis as RedisConfig
from lmforge_api.gateway_run import DemandReply, DemandReport, GatewayRun
from lmforge_workloads.common.exits import UserError
from lmforge_workloads.serve.gateway import metrics
from lmforge_workloads.serve.gateway.demand import Demand, Reporter
from lmforge_workloads.serve.gateway.hold import Availability
from lmforge_workloads.serve.gateway.keys import Keys
from lmforge_workloads.serve.gateway.limits import Limiter, MemoryLimiter
from lmforge_workloads.serve.gateway.limits_redis import RedisLimiter
from lmforge_workloads.serve.gateway.models import Models
from lmforge_workloads.serve.gateway.proxy import Parts
from lmforge_workloads.serve.gateway.sessions import MemorySessions, SessionStore
from lmforge_workloads.serve.gateway.sessions_redis import RedisSessions
from lmforge_workloads.serve.gateway.traffic import Traffic
from lmforge_workloads.serve.gateway.upstream import Upstream

_REDIS_SECONDS = 2.0


class Gatehouse:
    """A gateway's parts. To be made within a running loop."""

    def __init__(self, run: GatewayRun, *, pod: str) -> None:
        self.run = run
        self.draining = False
        self._redis = _redis(run)
        self._availability = Availability(
            self._probe, hold=run.hold, service=f"{run.namespace}/{run.name}", on_wait=self._begin_to_wait
        )
        self._upstream = Upstream(run.upstream, self._availability)
        self._traffic = Traffic(self._upstream)
        self._demand = Demand(pod=pod)
        self._reporter = self._made_reporter()
        self.parts = Parts(
            run=run,
            models=Models(run),
            keys=Keys(run.gateway, Path(run.keys_path)),
            limiter=self._limiter(),
            sessions=self._sessions(),
            traffic=self._traffic,
            demand=self._demand,
        )
        metrics.IN_FLIGHT.set_function(lambda: self._demand.running)
        metrics.HELD.set_function(lambda: self._availability.waiting)
        metrics.DRAINING.set_function(lambda: self.draining)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """What runs beside requests: keys are watched, demand is reported, metrics are served on their own port."""
        beside: list[Coroutine[object, object, None]] = [self.parts.keys.watch()]
        if self._reporter is not None:
            beside.append(self._reporter.run())
        tasks = [asyncio.create_task(each) for each in beside]
        try:
            async with metrics.served(self.run.listen.host, self.run.listen.metrics_port) as self.metrics_port:
                yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._upstream.close()
            if self._redis is not None:
                await self._redis.aclose()

    def _made_reporter(self) -> Reporter | None:
        target = self.run.demand
        return None if target is None else Reporter(target, report=self.report, on_reply=self._hear)

    def _prefix(self) -> str:
        """In Redis: services share one, and a service that is made anew doesn't find its predecessor's sessions."""
        return f"lmforge:{self.run.uid or f'{self.run.namespace}/{self.run.name}'}:"

    def _limiter(self) -> Limiter:
        return MemoryLimiter() if self._redis is None else RedisLimiter(self._redis, prefix=self._prefix())

    def _sessions(self) -> SessionStore | None:
        sessions = self.run.gateway.sessions
        if sessions is None:
            return None
        if self._redis is None:
            return MemorySessions(ttl=sessions.ttl_seconds, max_turns=sessions.max_turns)
        return RedisSessions(self._redis, prefix=self._prefix(), ttl=sessions.ttl_seconds, max_turns=sessions.max_turns)

    async def _probe(self) -> bool:
        return await self._upstream.probe()

    def _begin_to_wait(self) -> None:
        if self._reporter is not None:
            self._reporter.poke()

    def report(self) -> DemandReport:
        """The demand now, and what clients got from each revision."""
        demand = self._demand.report(waiting=self._availability.waiting)
        return demand.model_copy(update={"traffic_id": self._traffic.id, "revisions": self._traffic.counts()})

    def _hear(self, reply: DemandReply) -> None:
        """None ready: the next request need not find out. (If that is old news, the first probe says so.)"""
        self.parts.models.hear(reply)
        self._traffic.hear(reply.traffic)
        if reply.ready == 0:
            self._availability.lost()


def _redis(run: GatewayRun) -> Redis | None:
    sessions = run.gateway.sessions
    if sessions is None or sessions.redis is None:
        return None
    url = sessions.redis.url or _secret_url(sessions.redis, Path(run.redis_url_path))
    return Redis.from_url(url, socket_timeout=_REDIS_SECONDS, socket_connect_timeout=_REDIS_SECONDS)


def _secret_url(redis: RedisConfig, path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        told = f"{path} can't be read: does the Secret {redis.secret_name} have an entry {redis.secret_key}?"
        raise UserError(f"{told} ({error.strerror})") from None
