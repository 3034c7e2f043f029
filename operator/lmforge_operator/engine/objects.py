"""Our own objects, as kopf's watches tell of them: the store that reconciles read from.

kopf decodes each event once; what is kept is compact JSON (kube/cache.py). An event that changes nothing but
bookkeeping (managed fields, the echo of our own status) is no news.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence

from lmforge_operator.engine.references import References
from lmforge_operator.kube.cache import Cache
from lmforge_operator.kube.client import Kube
from lmforge_operator.kube.projections import custom_resource, phase
from lmforge_operator.kube.resources import Key, Manifest, Resource

log = logging.getLogger(__name__)


class Objects:
    """Objects of every kind by key. `on_change` hears of each that is new, changed or gone."""

    def __init__(
        self, kube: Kube, kinds: Iterable[Resource], *, on_change: Callable[[Key, Manifest], None], page: int = 500
    ) -> None:
        self._kube = kube
        self._page = page
        self._on_change = on_change
        self._resources = {kind.kind: kind for kind in kinds}
        self._references = References()
        self._lagging: dict[str, int] = {}
        self._caches = {kind: Cache(custom_resource, grouped=phase) for kind in self._resources}
        kube.on_write(self._written)

    def get(self, key: Key) -> Manifest | None:
        """The object, spec and status, as last seen or written."""
        cache = self._caches.get(key.kind)
        return cache.get(key.namespace, key.name) if cache else None

    def resource(self, kind: str) -> Resource:
        return self._resources[kind]

    def __iter__(self) -> Iterator[Key]:
        for kind, cache in self._caches.items():
            for namespace, name in cache.places():
                yield Key(kind, namespace, name)

    def phases(self) -> Iterator[tuple[str, dict[str, int]]]:
        """For each kind, how many objects there are in each phase."""
        return ((kind, cache.counts()) for kind, cache in self._caches.items())

    def dependents(self, key: Key) -> frozenset[Key]:
        """Objects that name this one as an input."""
        return self._references.dependents(key)

    def lagging(self) -> tuple[str, ...]:
        """Kinds of which two sweeps in a row found versions that the watch has not told of."""
        return tuple(self._resources[kind].plural for kind, sweeps in self._lagging.items() if sweeps > 1)

    def observe(self, kind: str, event: str | None, manifest: Manifest) -> None:
        """An event of a watch: ADDED, MODIFIED, DELETED, or None for an object that was there at the start."""
        cache = self._caches[kind]
        metadata = manifest["metadata"]
        place = metadata["namespace"], metadata["name"]
        if event is not None:
            cache.mark_seen("", metadata["resourceVersion"])
        changed = cache.remove(*place, uid=metadata["uid"]) if event == "DELETED" else cache.put(manifest)
        if changed:
            self._changed(Key(kind, *place), manifest, gone=event == "DELETED")

    def drop(self, key: Key) -> None:
        """It turned out to be gone."""
        former = self.get(key)
        if former is not None:
            self._caches[key.kind].remove(key.namespace, key.name)
            self._changed(key, former, gone=True)

    async def sweep(self, namespaces: Sequence[str] = ("",)) -> None:
        """Drops what the API server no longer has: kopf's relist after a gap says nothing of what went in it."""
        for kind, resource in self._resources.items():
            for scope in namespaces or ("",):
                for key in await self._missing(kind, resource, scope):
                    log.info("gone while nobody watched", extra={"key": key})
                    self.drop(key)

    async def _missing(self, kind: str, resource: Resource, scope: str) -> list[Key]:
        cache = self._caches[kind]
        missing, newest = set(cache.places(scope)), cache.seen(scope)
        unseen = 0
        pages = self._kube.pages(resource, namespace=scope or None, page=self._page, metadata_only=True)
        async for page in pages:
            missing -= {(item["metadata"]["namespace"], item["metadata"]["name"]) for item in page.items}
            unseen += sum(1 for item in page.items if cache.older(item["metadata"]))
        late = unseen > 0 and cache.seen(scope) == newest
        self._lagging[kind] = self._lagging.get(kind, 0) + 1 if late else 0
        return [Key(kind, *place) for place in sorted(missing)]

    def _changed(self, key: Key, manifest: Manifest, *, gone: bool) -> None:
        self._references.update(key, None if gone else manifest)
        self._on_change(key, manifest)

    def _written(self, resource: Resource, manifest: Manifest) -> None:
        cache = self._caches.get(resource.kind)
        if cache is not None:
            cache.put_written(manifest)
