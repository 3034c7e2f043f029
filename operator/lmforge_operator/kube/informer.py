"""A resource, watched: a list in pages, then events, for ever.

kopf's own watching is left aside: it can't select on the server, costs several times the CPU and memory (a task an
object, which works out what a handler might have to store), says nothing of deletions that happened while nobody was
watching, and doesn't tell how long a watch has been silent.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from lmforge_operator.errors import ApiError, Forbidden, Gone, NotFound, from_status
from lmforge_operator.kube.cache import Cache, Projection
from lmforge_operator.kube.client import Kube
from lmforge_operator.kube.resources import Resource
from lmforge_operator.labels import OWNER_UID
from lmforge_operator.manifests import Manifest

log = logging.getLogger(__name__)

WATCH_SECONDS = (240, 480)
"""Each watch ends after a random time between these, so that replicas and resources don't reconnect together."""
PAGE = 100
"""Objects of a list in memory at once, of each resource: with 500, a restart left half as much memory again in use."""
RECONNECT_SECONDS = (0.0, 0.3)
RETRY_SECONDS = (0.2, 15.0)
STALLED_SECONDS = 120.0
UNKNOWN_SECONDS = 15.0

OnChange = Callable[[Manifest], None]


class Informer:
    """Keeps a cache of the objects that match `selector` and calls `on_change` for each one that changed or went.

    An `optional` resource may be unknown to the API server: then there are none, until somebody installs it.
    What the same client writes is no news to whoever wrote it, but may be to others: `on_written` hears of it.
    """

    def __init__(
        self,
        kube: Kube,
        resource: Resource,
        *,
        project: Projection,
        grouped: Callable[[Manifest], str] = lambda _: "",
        on_change: OnChange = lambda _: None,
        on_written: OnChange = lambda _: None,
        selector: str = "",
        owner_label: str = OWNER_UID,
        namespaces: Sequence[str] = ("",),
        metadata_only: bool = False,
        optional: bool = False,
        page: int = PAGE,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self.resource = resource
        self.cache = Cache(project, grouped, owner_label)
        self._kube = kube
        self._on_change = on_change
        self._on_written = on_written
        self._selector = selector
        self._namespaces = tuple(namespaces) or ("",)
        self._metadata_only = metadata_only
        self._optional = optional
        self._unknown: set[str] = set()
        self._page = page
        self._sleep = sleep
        self._versions: dict[str, str] = {}
        self._alive: dict[str, float] = {}
        self._synced: set[str] = set()
        self._all_synced = asyncio.Event()
        kube.on_write(self._written)

    def get(self, namespace: str, name: str) -> Manifest | None:
        """The object, as far as its fields are kept."""
        return self.cache.get(namespace, name)

    def owned_by(self, uid: str) -> list[Manifest]:
        """Children of the object with this UID, by name."""
        return self.cache.owned_by(uid)

    @property
    def synced(self) -> bool:
        """Whether the first list is complete."""
        return self._all_synced.is_set()

    @property
    def installed(self) -> bool:
        """Whether the API server knows the resource."""
        return not self._unknown

    async def wait_synced(self) -> None:
        await self._all_synced.wait()

    def silence(self) -> float:
        """Seconds since the most silent of its streams last said anything."""
        now = asyncio.get_running_loop().time()
        return max((now - alive for alive in self._alive.values()), default=0.0)

    async def run(self) -> None:
        """Watches until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for namespace in self._namespaces:
                tasks.create_task(self._keep(namespace), name=f"informer {self.resource.plural} {namespace}".strip())

    async def _keep(self, scope: str) -> None:
        failures = 0
        self._touch(scope)
        while True:
            try:
                if scope not in self._versions:
                    self._versions[scope] = await self._list(scope)
                await self._follow(scope)
                failures = 0
                await self._sleep(random.uniform(*RECONNECT_SECONDS))
            except Gone:
                log.info("%s: the watch fell behind; listing again", self.resource.plural)
                self._versions.pop(scope, None)
            except ApiError as error:
                if self._optional and isinstance(error, NotFound):
                    self._not_installed(scope)
                    await self._sleep(UNKNOWN_SECONDS)
                    continue
                failures += 1
                self._report(error, failures)
                await self._sleep(_pause(failures))

    async def _list(self, scope: str) -> str:
        """Takes over what there is, and finds out what is there no more. Gives the version to watch from."""
        gone = set(self.cache.places(scope))
        version = ""
        async for page in self._kube.pages(
            self.resource,
            namespace=scope or None,
            selector=self._selector,
            page=self._page,
            metadata_only=self._metadata_only,
        ):
            version = page.version
            self._touch(scope)
            for manifest in page.items:
                gone.discard((manifest["metadata"].get("namespace") or "", manifest["metadata"]["name"]))
                self._put(manifest)
        for namespace, name in gone:
            self._lost(namespace, name, int(version))
        self.cache.mark_seen(scope, version)
        self._unknown.discard(scope)
        self._complete(scope)
        return version

    def _complete(self, scope: str) -> None:
        self._synced.add(scope)
        if len(self._synced) == len(self._namespaces):
            self._all_synced.set()

    def _not_installed(self, scope: str) -> None:
        """All that were there went with their definition."""
        self._touch(scope)
        self._unknown.add(scope)
        self._versions.pop(scope, None)
        for namespace, name in self.cache.places(scope):
            if (former := self.cache.get(namespace, name)) is not None:
                self.cache.remove(namespace, name)
                self._on_change(former)
        self._complete(scope)

    async def _follow(self, scope: str) -> None:
        watch = self._kube.watch(
            self.resource,
            namespace=scope or None,
            selector=self._selector,
            since=self._versions[scope],
            seconds=random.randint(*WATCH_SECONDS),
            metadata_only=self._metadata_only,
        )
        async with watch as events:
            self._touch(scope)  # it answers; on a quiet resource the first bookmark may be a minute away
            async for event in events:
                self._touch(scope)
                self._take(scope, event["type"], event["object"])

    def _take(self, scope: str, kind: str, manifest: Manifest) -> None:
        if kind == "ERROR":
            raise from_status(manifest.get("code", 500), manifest, request=f"WATCH {self.resource.plural}")
        version = str(manifest["metadata"]["resourceVersion"])
        self.cache.mark_seen(scope, version)
        if kind == "DELETED":
            self._delete(manifest)
        elif kind != "BOOKMARK":
            self._put(manifest)
        self._versions[scope] = version

    def _put(self, manifest: Manifest) -> None:
        if self.cache.put(manifest):
            self._on_change(manifest)

    def _delete(self, manifest: Manifest) -> None:
        metadata = manifest["metadata"]
        if self.cache.remove(metadata.get("namespace") or "", metadata["name"], uid=metadata["uid"]):
            self._on_change(manifest)

    def _lost(self, namespace: str, name: str, version: int) -> None:
        former = self.cache.get(namespace, name)
        # One that we created after the list was taken is newer than the list.
        if former is not None and int(former["metadata"]["resourceVersion"]) <= version:
            self.cache.remove(namespace, name)
            self._on_change(former)

    def _written(self, resource: Resource, manifest: Manifest) -> None:
        """The watch brings this as an echo, so what is news in it is told now: also a spec that we have not seen."""
        if resource != self.resource:
            return
        metadata = manifest["metadata"]
        former = self.cache.get(metadata.get("namespace") or "", metadata["name"])
        if not self.cache.put_written(manifest):
            return
        if former and former["metadata"].get("generation") != metadata.get("generation"):
            self._on_change(manifest)
        else:
            self._on_written(manifest)

    def _touch(self, scope: str) -> None:
        self._alive[scope] = asyncio.get_running_loop().time()

    def _report(self, error: ApiError, failures: int) -> None:
        if isinstance(error, Forbidden | NotFound) or failures > 3:
            log.warning("can't watch %s, trying again: %s", self.resource.plural, error)
        else:
            log.debug("watch of %s broke, connecting again: %s", self.resource.plural, error)


def _pause(failures: int) -> float:
    least, most = RETRY_SECONDS
    return random.uniform(0.5, 1.0) * min(most, least * 2.0 ** (failures - 1))
