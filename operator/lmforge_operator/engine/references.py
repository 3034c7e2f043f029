"""Which objects name which others, or which claims, as inputs: when one of these changes, they are looked at."""

from collections import defaultdict

from lmforge_operator.inputs.named import named
from lmforge_operator.kube.resources import Key
from lmforge_operator.manifests import Manifest


def references(manifest: Manifest) -> frozenset[Key]:
    """Every `from: {kind, name}` and every `pvc://claim/…` in the spec, at any depth."""
    namespace = manifest["metadata"]["namespace"]
    return frozenset(Key(kind, namespace, name) for kind, name in named(manifest.get("spec") or {}))


class References:
    """An index from an object to those that name it."""

    def __init__(self) -> None:
        self._named: dict[Key, frozenset[Key]] = {}
        self._naming: dict[Key, set[Key]] = defaultdict(set)

    def update(self, key: Key, manifest: Manifest | None) -> None:
        """The object changed, or is gone."""
        named = references(manifest) if manifest else frozenset()
        former = self._named.pop(key, frozenset())
        if named:
            self._named[key] = named
        for other in former - named:
            self._naming[other].discard(key)
            if not self._naming[other]:
                del self._naming[other]
        for other in named - former:
            self._naming[other].add(key)

    def dependents(self, key: Key) -> frozenset[Key]:
        """Objects that name this one."""
        return frozenset(self._naming.get(key, ()))
