"""Puts the parts together, starts them, and stops them in an order in which nothing writes after the lease is gone."""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import Any

from aiohttp import web
from prometheus_client import REGISTRY

from lmforge_operator import metrics
from lmforge_operator.engine import health
from lmforge_operator.engine.context import Background, Context, Reconcile
from lmforge_operator.engine.events import EventRecorder
from lmforge_operator.engine.loop import Loop
from lmforge_operator.engine.objects import Objects
from lmforge_operator.engine.queue import WorkQueue
from lmforge_operator.engine.wakes import Wakes
from lmforge_operator.errors import LeadershipLost
from lmforge_operator.kube import projections
from lmforge_operator.kube.client import Kube
from lmforge_operator.kube.connection import Connection
from lmforge_operator.kube.informer import Informer
from lmforge_operator.kube.lease import Elector, Identity
from lmforge_operator.kube.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    JOBS,
    LEADER_WORKER_SETS,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    SERVICES,
    WORKLOADS,
    Key,
    Resource,
)
from lmforge_operator.kube.transport import Transport
from lmforge_operator.labels import KUEUE_JOB, OWNER_UID
from lmforge_operator.manifests import Manifest
from lmforge_operator.reports.book import ReportBook
from lmforge_operator.reports.forward import Forwarder
from lmforge_operator.reports.identity import Reviewer
from lmforge_operator.reports.rate import RateLimit
from lmforge_operator.reports.server import ReportServer
from lmforge_operator.reports.tls import Certificate
from lmforge_operator.serving.memory import Memory
from lmforge_operator.settings import Settings

log = logging.getLogger(__name__)

LAST_EVENTS_SECONDS = 2.0
"""For the Events that are not written yet when the process is asked to end."""


class Runtime:
    """One replica of the operator: all but the process around it, which is kopf's."""

    def __init__(
        self,
        settings: Settings,
        connection: Connection,
        kinds: Sequence[tuple[Resource, Reconcile]],
        *,
        identity: Identity,
        background: Sequence[Background] = (),
    ) -> None:
        self.settings = settings
        self._background = background
        self.book = ReportBook()
        self.memory = Memory()
        self.queue: WorkQueue[Key] = WorkQueue(
            clock=monotonic,
            minimum_interval=settings.queue.minimum_interval_seconds,
            backoff_base=settings.queue.backoff_base_seconds,
            backoff_max=settings.queue.backoff_max_seconds,
            on_wait=metrics.QUEUE_SECONDS.observe,
        )
        self._wakes = Wakes(self.queue, settings)
        self._transport = Transport(
            connection, pool=settings.api_connections, timeout_seconds=settings.api_timeout_seconds
        )
        self._identity = identity
        # Renewing the lease must not queue for a connection behind the reconciles.
        self._lease_transport = Transport(connection, pool=2, timeout_seconds=settings.api_timeout_seconds)
        self.elector = Elector(
            Kube(self._lease_transport),
            settings.leader_election,
            namespace=settings.leader_election.namespace or connection.namespace,
            identity=identity,
        )
        self.kube = Kube(self._transport, fence=self.elector.fence if settings.leader_election.enabled else _no_fence)
        self.objects = Objects(
            self.kube,
            [resource for resource, _ in kinds],
            wake=self.queue.add,
            forget=self._forget,
            namespaces=settings.watch_namespaces,
        )
        self.context = self._context()
        self.loop = Loop(self.queue, self.context, {resource.kind: reconcile for resource, reconcile in kinds})
        self._kinds = {resource.plural: resource for resource, _ in kinds}
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self.http_port = settings.http_port
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when a part broke: the process should end, and be restarted."""

    async def start(self) -> None:
        """Returns when everything is under way; caches fill in the background."""
        await self._stack.enter_async_context(self._transport)
        await self._stack.enter_async_context(self._lease_transport)
        for informer in self._informers:
            self._spawn(informer.run(), f"informer {informer.resource.plural}")
        probes = health.application(self._health())
        self.http_port = await self._serve(probes, self.settings.http_address, self.settings.http_port)
        await self._serve_reports()
        self._register_metrics()
        self._spawn(self._lead(), "leader")

    async def stop(self) -> None:
        """Work stops first, then the lease goes to a standby, then the connections close."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._say_the_rest()
        await self.elector.release()
        await self._stack.aclose()

    # The leader's life

    async def _lead(self) -> None:
        while True:
            if self.settings.leader_election.enabled:
                await self.elector.acquire()
            try:
                # A task of its own: what Python 3.11's TaskGroup leaves of a cancellation must not end this one too.
                await asyncio.create_task(self._work())
            except* LeadershipLost as lost:
                log.warning("stopped working: %s", lost.exceptions[0])

    async def _work(self) -> None:
        """Works for as long as this replica leads."""
        async with asyncio.TaskGroup() as tasks:
            if self.settings.leader_election.enabled:
                tasks.create_task(self.elector.hold())
            for informer in self._informers:
                await informer.wait_synced()
            for key in self.objects:
                self.queue.add(key, background=True)
            for work in self._background:
                tasks.create_task(work(self.context))
            tasks.create_task(self.context.events.run())
            tasks.create_task(self.loop.run())

    async def _say_the_rest(self) -> None:
        with suppress(LeadershipLost, TimeoutError):
            async with asyncio.timeout(LAST_EVENTS_SECONDS):
                await self.context.events.flush()

    def _forget(self, manifest: Manifest) -> None:
        self.book.forget(manifest["metadata"]["uid"])
        self.memory.forget(manifest["metadata"]["uid"])

    def _claim_changed(self, claim: Manifest) -> None:
        metadata = claim["metadata"]
        self.objects.wake_dependents(Key(PERSISTENT_VOLUME_CLAIMS.kind, metadata["namespace"], metadata["name"]))

    def _workload_changed(self, workload: Manifest) -> None:
        for owner in workload["metadata"].get("ownerReferences") or ():
            job = self.context.jobs.get(workload["metadata"]["namespace"], owner["name"])
            if job is not None:
                self._wakes.child_changed(job)

    # The parts

    @property
    def _informers(self) -> tuple[Informer, ...]:
        return self.objects.informers + self.context.informers

    def _context(self) -> Context:
        watch = partial(Informer, self.kube, namespaces=self.settings.watch_namespaces or ("",))
        children = partial(watch, selector=OWNER_UID, on_change=self._wakes.child_changed)
        return Context(
            kube=self.kube,
            objects=self.objects,
            jobs=children(JOBS, project=projections.job),
            pods=children(PODS, project=projections.pod),
            deployments=children(DEPLOYMENTS, project=projections.deployment),
            leader_worker_sets=children(LEADER_WORKER_SETS, project=projections.leader_worker_set, optional=True),
            workloads=watch(
                WORKLOADS,
                project=projections.workload,
                selector=KUEUE_JOB,
                owner_label=KUEUE_JOB,
                on_change=self._workload_changed,
                optional=True,
            ),
            services=children(SERVICES, project=projections.only_metadata, metadata_only=True),
            config_maps=children(CONFIG_MAPS, project=projections.only_metadata, metadata_only=True),
            claims=watch(
                PERSISTENT_VOLUME_CLAIMS,
                project=projections.claim,
                on_change=self._claim_changed,
                on_written=self._claim_changed,
            ),
            reports=self.book,
            memory=self.memory,
            events=EventRecorder(self.kube, instance=self._identity.name, now=_now),
            settings=self.settings,
            now=_now,
            reports_ca=self.settings.reports.ca_path.read_text,
        )

    async def _serve_reports(self) -> None:
        reports = self.settings.reports
        if reports.service_url is None:
            return
        certificate = Certificate(reports.cert_dir)
        forwarder = Forwarder(
            holder=lambda: self.elector.holder, ca_path=reports.ca_path, service_url=reports.service_url
        )
        self._stack.push_async_callback(forwarder.close)
        server = ReportServer(
            book=self.book,
            demand=self.memory.demand,
            reviewer=Reviewer(self.kube, remember_seconds=reports.review_cache_seconds, clock=monotonic),
            pods=self.context.pods,
            kinds=self._kinds,
            object_of=self.objects.get,
            wake=self._wakes.reported,
            leads=lambda: self.elector.leads or not self.settings.leader_election.enabled,
            forwarder=forwarder,
            rate=RateLimit(reports.max_per_second, clock=monotonic),
            now=_now,
            max_body_bytes=reports.max_body_bytes,
        )
        await self._serve(server.application(), reports.address, reports.port, certificate=certificate)
        self._spawn(certificate.keep_fresh(), "certificate")

    async def _serve(
        self, app: web.Application, address: str, port: int, *, certificate: Certificate | None = None
    ) -> int:
        """Gives the port, which the system has chosen if it was 0."""
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.5)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, address, port, ssl_context=certificate.context if certificate else None).start()
        return int(runner.addresses[0][1])

    def _health(self) -> health.Health:
        def idle() -> float:
            return asyncio.get_running_loop().time() - self.loop.beat

        return health.Health(
            informers=self._informers,
            waiting=lambda: self.queue.oldest() if self.elector.leads else 0.0,
            idle=idle,
            out_of_office=self.elector.silence if self.settings.leader_election.enabled else lambda: 0.0,
        )

    def _register_metrics(self) -> None:
        collector = metrics.LiveCollector(
            queue_depths=self.queue.depths,
            watch_ages=lambda: {informer.resource.plural: informer.silence() for informer in self._informers},
            phases=self.objects.phases,
            runs=self.book.runs,
        )
        REGISTRY.register(collector)
        self._stack.callback(REGISTRY.unregister, collector)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._stopping or self.failed.done():
            return
        broke = None if task.cancelled() else task.exception()
        if task.cancelled() or broke is not None:
            log.error("%s broke; the process ends", task.get_name(), exc_info=broke)
            self.failed.set_result(None)


def _now() -> datetime:
    return datetime.now(UTC)


def _no_fence() -> None:
    """A single replica by agreement may always write."""
