"""Load for bench (b): creates objects as fast as the API server takes them, and notes what comes of them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from e2e.bench.control_plane_world import NAMESPACE
from lmforge_operator.errors import ApiError
from lmforge_operator.kube.client import Kube
from lmforge_operator.kube.connection import connect
from lmforge_operator.kube.resources import CONFIG_MAPS, JOBS, PODS, SERVICES, TRAINING_JOBS, Resource
from lmforge_operator.kube.transport import Transport
from lmforge_operator.labels import OWNER_UID, ConditionType
from lmforge_operator.manifests import Manifest

CHILDREN = (JOBS, CONFIG_MAPS, SERVICES)


@dataclass(frozen=True)
class Subject:
    """A kind that is measured: how one is made, what belongs to it, and how its status is read."""

    resource: Resource
    children: tuple[Resource, ...]
    label: str
    """On all its children, the pods included."""
    make: Callable[[str], Manifest]
    """From its name."""
    is_stated: Callable[[Manifest], bool]
    is_scheduled: Callable[[Manifest], bool]
    """Whether this status says that all its pods are placed: the last news that played pods cause."""


def training_job(name: str, *, nodes: int) -> Manifest:
    """A small one, with everything else by default."""
    return {
        "apiVersion": TRAINING_JOBS.api_version,
        "kind": TRAINING_JOBS.kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "model": {"init": {"architecture": "llama", "layers": 8, "hiddenSize": 256, "heads": 8}},
            "dataset": {"uri": "s3://corpus/text.jsonl"},
            "nodes": nodes,
            "parallelism": {"data": nodes},
            "steps": 400,
        },
    }


@dataclass
class Tally:
    """Who has been seen, and since when the tally has been as large as it is."""

    names: set[str] = field(default_factory=set)
    at: float = 0.0

    def note(self, name: str, present: bool) -> None:
        before = len(self.names)
        (self.names.add if present else self.names.discard)(name)
        if len(self.names) != before:
            self.at = time.monotonic()


class Observer:
    """Watches the objects of a kind and their children."""

    def __init__(self, kube: Kube, subject: Subject) -> None:
        self.kube = kube
        self.subject = subject
        self.children = {resource.plural: Tally() for resource in (*subject.children, PODS)}
        self.objects = Tally()
        self.stated = Tally()
        """Those that have a status."""
        self.scheduled = Tally()
        """Those whose status says that all their pods are placed."""

    async def until(self, holds: Callable[[], bool], *, seconds: float, what: str) -> None:
        async with asyncio.timeout(seconds):
            try:
                while not holds():  # noqa: ASYNC110 (tallies tell nobody)
                    await asyncio.sleep(0.02)
            except asyncio.CancelledError:
                raise TimeoutError(f"{what}: {self.summary()}") from None

    def summary(self) -> dict[str, int]:
        counts = {plural: len(tally.names) for plural, tally in self.children.items()}
        return counts | {"stated": len(self.stated.names), "scheduled": len(self.scheduled.names)}

    async def follow(self, resource: Resource) -> None:
        owned = resource is not self.subject.resource
        selector = self.subject.label if owned else ""
        version = ""
        pages = self.kube.pages(resource, namespace=NAMESPACE, selector=selector, metadata_only=owned)
        async for page in pages:
            version = page.version
            for item in page.items:
                self._take(resource, "ADDED", item)
        while True:
            with suppress(ApiError):
                watch = self.kube.watch(
                    resource, namespace=NAMESPACE, selector=selector, since=version, seconds=3600, metadata_only=owned
                )
                async with watch as events:
                    async for event in events:
                        version = event["object"]["metadata"]["resourceVersion"]
                        if event["type"] != "BOOKMARK":
                            self._take(resource, event["type"], event["object"])

    def _take(self, resource: Resource, kind: str, item: Manifest) -> None:
        name, present = item["metadata"]["name"], kind != "DELETED"
        if resource is not self.subject.resource:
            self.children[resource.plural].note(name, present)
            return
        self.objects.note(name, present)
        status = item.get("status") or {}
        self.stated.note(name, present and self.subject.is_stated(status))
        self.scheduled.note(name, present and self.subject.is_scheduled(status))


def _is_scheduled(status: Manifest) -> bool:
    found = ((each["type"], each["status"]) for each in status.get("conditions") or ())
    return (ConditionType.SCHEDULED, "True") in found


def training_jobs(*, nodes: int) -> Subject:
    """TrainingJobs of so many pods each. Only several pods need a Service."""
    return Subject(
        resource=TRAINING_JOBS,
        children=CHILDREN if nodes > 1 else (JOBS, CONFIG_MAPS),
        label=OWNER_UID,
        make=partial(training_job, nodes=nodes),
        is_stated=lambda status: bool(status.get("phase")),
        is_scheduled=_is_scheduled,
    )


@asynccontextmanager
async def observer(kubeconfig: Path, subject: Subject) -> AsyncIterator[Observer]:
    """Watches while the block runs."""
    async with Transport(connect(str(kubeconfig)), pool=16, timeout_seconds=60) as transport:
        observed = Observer(Kube(transport), subject)
        watched = (subject.resource, *subject.children, PODS)
        tasks = [asyncio.create_task(observed.follow(resource)) for resource in watched]
        try:
            yield observed
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def create(observed: Observer, names: list[str], *, at_once: int = 16) -> None:
    """Creates them all, in order, so many requests at a time."""
    waiting = iter(names)

    async def work() -> None:
        for name in waiting:
            await observed.kube.create(observed.subject.resource, observed.subject.make(name))

    await asyncio.gather(*(work() for _ in range(at_once)))


async def delete_all(observed: Observer, *, at_once: int = 16) -> None:
    """Deletes every object and waits until garbage collection has settled."""
    waiting = iter(sorted(observed.objects.names))

    async def work() -> None:
        for name in waiting:
            await observed.kube.delete(observed.subject.resource, NAMESPACE, name)

    await asyncio.gather(*(work() for _ in range(at_once)))
    tallies = (observed.objects, *observed.children.values())
    await observed.until(lambda: not any(tally.names for tally in tallies), seconds=600, what="garbage collection")
    await asyncio.sleep(3)
