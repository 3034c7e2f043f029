"""Our own objects, one informer a kind: the store that reconciles read from.

An event that changes nothing but bookkeeping (managed fields, the echo of our own status) is no news.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from lmforge_operator.engine.references import References
from lmforge_operator.kube import projections
from lmforge_operator.kube.client import Kube
from lmforge_operator.kube.informer import Informer
from lmforge_operator.kube.resources import Key, Manifest, Resource, key_of


class Objects:
    """Objects of every kind by key. `on_change` hears of each that is new, changed or gone."""

    def __init__(
        self,
        kube: Kube,
        kinds: Iterable[Resource],
        *,
        on_change: Callable[[Key, Manifest], None],
        namespaces: Sequence[str] = ("",),
    ) -> None:
        self._on_change = on_change
        self._references = References()
        self._informers = {
            kind.kind: Informer(
                kube,
                kind,
                project=projections.custom_resource,
                grouped=projections.phase,
                on_change=self._changed,
                namespaces=namespaces,
            )
            for kind in kinds
        }

    @property
    def informers(self) -> tuple[Informer, ...]:
        return tuple(self._informers.values())

    def get(self, key: Key) -> Manifest | None:
        """The object, spec and status, as last seen or written."""
        informer = self._informers.get(key.kind)
        return informer.get(key.namespace, key.name) if informer else None

    def resource(self, kind: str) -> Resource:
        return self._informers[kind].resource

    def __iter__(self) -> Iterator[Key]:
        for kind, informer in self._informers.items():
            for namespace, name in informer.cache.places():
                yield Key(kind, namespace, name)

    def phases(self) -> Iterator[tuple[str, dict[str, int]]]:
        """For each kind, how many objects there are in each phase."""
        return ((kind, informer.cache.counts()) for kind, informer in self._informers.items())

    def dependents(self, key: Key) -> frozenset[Key]:
        """Objects that name this one as an input."""
        return self._references.dependents(key)

    def _changed(self, manifest: Manifest) -> None:
        key = key_of(manifest)
        gone = key not in self
        self._references.update(key, None if gone else manifest)
        self._on_change(key, manifest)

    def __contains__(self, key: Key) -> bool:
        return (key.namespace, key.name) in self._informers[key.kind].cache
