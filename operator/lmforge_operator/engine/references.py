"""Which objects name which others, or which claims, as inputs: when one of these changes, they are looked at."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from lmforge_operator.kube.resources import PERSISTENT_VOLUME_CLAIMS, Key
from lmforge_operator.manifests import Manifest


def references(manifest: Manifest) -> frozenset[Key]:
    """Every `from: {kind, name}` and every `pvc://claim/…` in the spec, at any depth."""
    namespace = manifest["metadata"]["namespace"]
    return frozenset(Key(kind, namespace, name) for kind, name in _walk(manifest.get("spec") or {}))


def _walk(fields: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in fields.items():
        if isinstance(value, dict):
            if name == "from" and "kind" in value and "name" in value:
                yield value["kind"], value["name"]
            yield from _walk(value)
        elif isinstance(value, list):
            for each in value:
                yield from _walk(each if isinstance(each, dict) else {})
        elif isinstance(value, str) and value.startswith("pvc://"):
            yield PERSISTENT_VOLUME_CLAIMS.kind, urlsplit(value).netloc


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
