"""What is remembered of adapters between two looks. Losing it costs one question to each replica."""

import asyncio
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from lmforge_operator.serving.adapters.replica import ReplicaAdapters
from lmforge_operator.serving.adapters.wanted import Adapter
from lmforge_operator.serving.engines.engine import Engine


@dataclass(frozen=True)
class Wanted:
    """A service's adapters, and the engine that takes them."""

    engine: Engine
    adapters: tuple[Adapter, ...]


class AdapterBook:
    """By the service's UID, and the replica's name."""

    def __init__(self) -> None:
        self._wanted: dict[str, Wanted] = {}
        self._replicas: dict[str, dict[str, ReplicaAdapters]] = {}
        self.changed = asyncio.Event()
        """Set when other adapters are wanted than before."""

    def want(self, uid: str, wanted: Wanted | None) -> None:
        """What the service's replicas should have; None where they take no adapters."""
        if wanted == self._wanted.get(uid):
            return
        if wanted is None:
            self.forget(uid)
            return
        self._wanted[uid] = wanted
        self.changed.set()

    def services(self) -> Iterator[tuple[str, Wanted]]:
        """Services whose replicas take adapters."""
        return iter(list(self._wanted.items()))

    def wanted(self, uid: str) -> Wanted | None:
        return self._wanted.get(uid)

    def replica(self, uid: str, pod: str) -> ReplicaAdapters:
        """What is known of a replica."""
        return self._replicas.get(uid, {}).get(pod, ReplicaAdapters())

    def record(self, uid: str, pod: str, found: ReplicaAdapters) -> None:
        """The replica as it is now."""
        if uid in self._wanted:
            self._replicas.setdefault(uid, {})[pod] = found

    def replicas(self, uid: str, pods: Collection[str]) -> Mapping[str, ReplicaAdapters]:
        """These replicas; the others are forgotten."""
        known = self._replicas.get(uid, {})
        for gone in known.keys() - set(pods):
            del known[gone]
        return dict(known)

    def forget(self, uid: str) -> None:
        """The service is gone."""
        self._wanted.pop(uid, None)
        self._replicas.pop(uid, None)
