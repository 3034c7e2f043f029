"""Our own objects, one informer a kind: the store that reconciles read from.

An event that changes nothing but bookkeeping (managed fields) is no news. Our own status is none to the object itself,
but to those that wait for it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from lmforge_operator.engine.references import References
from lmforge_operator.kube import projections
from lmforge_operator.kube.client import Kube
from lmforge_operator.kube.informer import Informer
from lmforge_operator.kube.resources import Key, Resource, key_of
from lmforge_operator.manifests import Manifest


class Objects:
    """Objects of every kind by key. Wakes each that is new, changed or gone, and those that wait for it as an input."""

    def __init__(
        self,
        kube: Kube,
        kinds: Iterable[Resource],
        *,
        wake: Callable[[Key], None],
        forget: Callable[[Manifest], None] = lambda _: None,
        namespaces: Sequence[str] = ("",),
    ) -> None:
        self._wake = wake
        self._forget = forget
        self._references = References()
        self._informers = {
            kind.kind: Informer(
                kube,
                kind,
                project=projections.custom_resource,
                grouped=projections.phase,
                on_change=self._changed,
                on_written=self._written,
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

    def wake_dependents(self, key: Key) -> None:
        """An input changed: the objects that name it are looked at."""
        for dependent in self._references.dependents(key):
            self._wake(dependent)

    def _changed(self, manifest: Manifest) -> None:
        key = key_of(manifest)
        gone = key not in self
        self._references.update(key, None if gone else manifest)
        if gone:
            self._forget(manifest)
        self._wake(key)
        self.wake_dependents(key)

    def _written(self, manifest: Manifest) -> None:
        key = key_of(manifest)
        self._references.update(key, manifest)
        self.wake_dependents(key)

    def __contains__(self, key: Key) -> bool:
        return (key.namespace, key.name) in self._informers[key.kind].cache
