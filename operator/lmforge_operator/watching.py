"""kopf, reduced to what is wanted of it: it watches our kinds, logs in, starts and stops.

Nothing of it that writes to our objects is in use. It still computes what it would have to store about each event,
which takes several times longer than anything else that happens to the event: hence the storages that store nothing.
"""

from collections.abc import Callable, Iterable
from typing import Any

import kopf

from lmforge_operator.kube.connection import Connection
from lmforge_operator.kube.resources import Manifest, Resource

PAGE = 250

Observe = Callable[[str, str | None, Manifest], None]
"""Gets the kind, the type of the event (None: it was there at the start), and the object."""


class NoDiffBase(kopf.DiffBaseStorage):
    """Remembers no former state: reconciling compares with what exists."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> Any:
        return None

    def store(self, **_: Any) -> None:
        """Nothing to do."""


class NoProgress(kopf.ProgressStorage):
    """Remembers no handlers: there are none that could be half done."""

    def fetch(self, **_: Any) -> Any:
        return None

    def store(self, **_: Any) -> None:
        """Nothing to do."""

    def purge(self, **_: Any) -> None:
        """Nothing to do."""

    def touch(self, **_: Any) -> None:
        """Nothing to do."""

    def clear(self, *, essence: Any) -> Any:
        return essence


def settings() -> kopf.OperatorSettings:
    """No events, no scanning, bounded silence, paged lists."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.scanning.disabled = True
    chosen.persistence.diffbase_storage = NoDiffBase()
    chosen.persistence.progress_storage = NoProgress()
    chosen.watching.chunk_size = PAGE
    chosen.watching.connect_timeout = 10
    chosen.watching.server_timeout = 300
    chosen.watching.inactivity_timeout = 90
    chosen.networking.request_timeout = 30
    chosen.networking.error_backoffs = (0.5, 1, 2)  # and again from the start: a watch never gives up
    # Handlers take microseconds: a worker that waits for more events of its object only costs memory.
    chosen.queueing.idle_timeout = 0.05
    chosen.queueing.exit_timeout = 0.2
    return chosen


def registry(resources: Iterable[Resource], connection: Connection, *, observe: Observe) -> kopf.OperatorRegistry:
    """One event handler a kind, and the login."""
    handlers = kopf.OperatorRegistry()

    @kopf.on.login(registry=handlers)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return connection.fresh()

    for resource in resources:
        _watch(handlers, resource, observe)
    return handlers


def _watch(handlers: kopf.OperatorRegistry, resource: Resource, observe: Observe) -> None:
    @kopf.on.event(resource.group, resource.version, resource.plural, registry=handlers)
    async def handle(event: kopf.RawEvent, **_: Any) -> None:
        observe(resource.kind, event["type"], dict(event["object"]))
