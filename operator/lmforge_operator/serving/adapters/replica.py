"""One replica's adapters: what it has, what failed, and what to ask of it next. Pure.

A replica tells names and paths. Which weights it read from a path only we remember: when a path's digest changes they
are loaded anew. (What was loaded while nobody remembered counts as what is wanted at that path.)
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeVar

from lmforge_operator.serving.adapters.wanted import Adapter

FIRST_PAUSE = timedelta(seconds=2)
LONGEST_PAUSE = timedelta(seconds=60)
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Version:
    """Weights: where they were read, and what they were."""

    path: str
    digest: str = ""


@dataclass(frozen=True)
class Failure:
    """An adapter that the replica did not take."""

    version: Version
    message: str
    tries: int
    again: datetime


@dataclass(frozen=True)
class ReplicaAdapters:
    """By the adapters' names."""

    loaded: Mapping[str, Version] = field(default_factory=dict)
    failures: Mapping[str, Failure] = field(default_factory=dict)

    def has(self, adapter: Adapter) -> bool:
        """Whether requests for it are answered, and by the right weights."""
        found = self.loaded.get(adapter.name)
        return found is not None and (not adapter.uri or found == version_of(adapter))

    def seen(self, paths: Mapping[str, str], wanted: Iterable[Adapter]) -> "ReplicaAdapters":
        """After the replica has told what it has."""
        asked = {each.name: version_of(each) for each in wanted}
        loaded = {name: self._version(name, path, asked.get(name)) for name, path in paths.items()}
        failing = asked.items() - loaded.items()
        left = {name: self.failures[name] for name, _ in failing if name in self.failures}
        return ReplicaAdapters(loaded, left)

    def _version(self, name: str, path: str, asked: Version | None) -> Version:
        known = self.loaded.get(name)
        if known is not None and known.path == path:
            return known
        return asked if asked is not None and asked.path == path else Version(path)

    def took(self, adapter: Adapter) -> "ReplicaAdapters":
        """After it has loaded one."""
        return ReplicaAdapters(
            {**self.loaded, adapter.name: version_of(adapter)}, _without(self.failures, adapter.name)
        )

    def dropped(self, name: str) -> "ReplicaAdapters":
        """After it has given one up."""
        return replace(self, loaded=_without(self.loaded, name))

    def refused(self, adapter: Adapter, message: str, *, now: datetime) -> "ReplicaAdapters":
        """After it has refused one: it is asked again later, each time after twice the pause."""
        version, former = version_of(adapter), self.failures.get(adapter.name)
        tries = former.tries + 1 if former and former.version == version else 1
        pause = min(FIRST_PAUSE * 2 ** min(tries - 1, 10), LONGEST_PAUSE)
        failure = Failure(version, message, tries, now + pause)
        return replace(self, failures={**self.failures, adapter.name: failure})


@dataclass(frozen=True)
class Load:
    """The replica should have this adapter. `replaces`: it has another of that name."""

    adapter: Adapter
    replaces: bool = False


@dataclass(frozen=True)
class Unload:
    """The replica has an adapter that nobody wants any more."""

    name: str


def next_calls(wanted: Sequence[Adapter], replica: ReplicaAdapters, *, now: datetime) -> Iterator[Load | Unload]:
    """What to ask of the replica: first what it can forget. An adapter that has no place yet is left as it is."""
    names = {each.name for each in wanted}
    for name in sorted(replica.loaded.keys() - names):
        yield Unload(name)
    for adapter in wanted:
        if adapter.uri and not (replica.has(adapter) or _rests(adapter, replica, now)):
            yield Load(adapter, replaces=adapter.name in replica.loaded)


def version_of(adapter: Adapter) -> Version:
    """The weights that are wanted."""
    return Version(adapter.path, adapter.digest)


def _rests(adapter: Adapter, replica: ReplicaAdapters, now: datetime) -> bool:
    failure = replica.failures.get(adapter.name)
    return failure is not None and failure.version == version_of(adapter) and now < failure.again


def _without(mapping: Mapping[str, _Value], name: str) -> dict[str, _Value]:
    return {key: value for key, value in mapping.items() if key != name}
