"""What a reconcile may use. Everything comes in here, so that tests put their own in."""

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lmforge_operator.engine.events import EventRecorder
from lmforge_operator.engine.objects import Objects
from lmforge_operator.kube.client import Kube
from lmforge_operator.kube.informer import Informer
from lmforge_operator.kube.resources import Resource
from lmforge_operator.manifests import Manifest
from lmforge_operator.reports.book import ReportBook
from lmforge_operator.serving.memory import Memory
from lmforge_operator.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Context:
    """The world as a reconcile sees it."""

    kube: Kube
    objects: Objects
    """Our own objects, of every kind."""
    jobs: Informer
    pods: Informer
    deployments: Informer
    leader_worker_sets: Informer
    """Empty where LeaderWorkerSet isn't installed."""
    workloads: Informer
    """Kueue's view of Jobs that wait in its queues, by the Job's UID. Empty where Kueue isn't installed."""
    services: Informer
    """Metadata only."""
    config_maps: Informer
    """Metadata only."""
    claims: Informer
    """PersistentVolumeClaims of every namespace: whether they are bound."""
    reports: ReportBook
    memory: Memory
    """What is remembered of services: measurements, demand, wishes."""
    events: EventRecorder
    settings: Settings
    now: Callable[[], datetime]
    reports_ca: Callable[[], str]
    """Certificate (PEM) of the authority that pods verify the reports' endpoint against."""

    @property
    def informers(self) -> tuple[Informer, ...]:
        made = (self.jobs, self.pods, self.deployments, self.leader_worker_sets, self.services, self.config_maps)
        return (*made, self.workloads, self.claims)


Background = Callable[[Context], Coroutine[Any, Any, None]]
"""Work that the leader does beside reconciling, until it is cancelled."""

Reconcile = Callable[[Context, Manifest], Awaitable[float | None]]
"""Looks at what is wanted and what exists, acts, writes the status if it changed.

Gives the seconds after which to look again, or None: when something changes.
"""


@dataclass(frozen=True)
class Kind:
    """A line of the table of kinds."""

    resource: Resource
    reconcile: Reconcile
