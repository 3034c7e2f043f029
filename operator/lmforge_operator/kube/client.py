"""The few operations that reconciling needs, straight on the API: nothing is read before it is written.

What a write returns is handed to the caches (`on_write`): the next reconcile sees its own writes at once, and the echo
that the watch brings later is no news.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from lmforge_operator.errors import Conflict, Invalid, NotFound
from lmforge_operator.kube.resources import Resource
from lmforge_operator.kube.transport import Transport
from lmforge_operator.labels import FIELD_MANAGER
from lmforge_operator.manifests import Manifest

METADATA_ONLY = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
METADATA_ONLY_LIST = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
WATCH_SILENCE_SECONDS = 90.0
"""Bookmarks come about once a minute; a stream that is silent for longer is dead."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a collection, and the resource version to watch the whole of it from."""

    items: list[Manifest]
    version: str


OnWrite = Callable[[Resource, Manifest], None]


class Kube:
    """Typed operations on the API server.

    `fence` is called before every write and raises LeadershipLost when this replica must not write. A watch that says
    nothing for `watch_silence_seconds` is broken off.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        fence: Callable[[], None] = lambda: None,
        watch_silence_seconds: float = WATCH_SILENCE_SECONDS,
    ) -> None:
        self.transport = transport
        self._watch_silence_seconds = watch_silence_seconds
        self._fence = fence
        self._on_write: list[OnWrite] = []

    def on_write(self, callback: OnWrite) -> None:
        """Calls back with each object as a successful write left it."""
        self._on_write.append(callback)

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Manifest | None:
        try:
            return _manifest(await self.transport.send("GET", resource.path(namespace, name)))
        except NotFound:
            return None

    async def apply(self, resource: Resource, manifest: Manifest) -> Manifest:
        """Server-side apply as the owner of these fields: others' fields stay, ours win."""
        namespace, name = _place(manifest)
        query = f"fieldManager={FIELD_MANAGER}&force=true"
        return await self._write(
            resource, "PATCH", resource.path(namespace, name), manifest, "application/apply-patch+yaml", query
        )

    async def create(self, resource: Resource, manifest: Manifest) -> Manifest | None:
        """Half the cost of an apply, for names that are a function of what they hold. None: it exists already."""
        namespace, _ = _place(manifest)
        try:
            return await self._write(
                resource, "POST", resource.path(namespace), manifest, query=f"fieldManager={FIELD_MANAGER}"
            )
        except Conflict as error:
            if error.reason == "AlreadyExists":
                return None
            raise

    async def replace(self, resource: Resource, manifest: Manifest) -> Manifest:
        """PUT: raises Conflict when the object changed since `manifest` was read."""
        namespace, name = _place(manifest)
        return await self._write(resource, "PUT", resource.path(namespace, name), manifest)

    async def merge(self, resource: Resource, namespace: str, name: str, patch: Manifest) -> Manifest | None:
        """Changes these fields and no others (a JSON merge patch). None: it is gone."""
        path = resource.path(namespace, name)
        try:
            return await self._write(
                resource, "PATCH", path, patch, "application/merge-patch+json", f"fieldManager={FIELD_MANAGER}"
            )
        except NotFound:
            return None

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        uid: str | None = None,
        propagation: str = "Background",
        grace_seconds: int | None = None,
    ) -> bool:
        """Deletes the object (with `uid`: only that one). False: it is gone already, or is another one by now."""
        options: Manifest = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        self._fence()
        try:
            await self.transport.send("DELETE", resource.path(namespace, name), body=options)
        except (NotFound, Conflict):
            return False
        return True

    async def write_status(
        self, resource: Resource, namespace: str, name: str, status: Manifest, *, uid: str
    ) -> Manifest | None:
        """Replaces the status of the object with that UID in one request, without reading it first.

        None: it is gone. A JSON patch is the only write that replaces a whole field, tests the UID and needs no
        resource version, so a user's concurrent edit of the spec is no conflict.
        """
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "add", "path": "/status", "value": status},
        ]
        path = resource.path(namespace, name, "status")
        try:
            return await self._write(
                resource, "PATCH", path, patch, "application/json-patch+json", f"fieldManager={FIELD_MANAGER}"
            )
        except NotFound:
            return None
        except Invalid as error:
            if _uid_differs(error):
                return None
            raise

    async def review(self, resource: Resource, body: Manifest) -> Manifest:
        """Asks a question by POST (TokenReview): nothing is stored, so any replica may."""
        return _manifest(await self.transport.send("POST", resource.path(), body=body))

    async def pages(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        selector: str = "",
        page: int = 500,
        metadata_only: bool = False,
    ) -> AsyncIterator[Page]:
        """The collection, a page at a time: however many there are, only one page is in memory."""
        token = ""
        while True:
            query = _query(labelSelector=selector, limit=str(page), **{"continue": token})
            accept = METADATA_ONLY_LIST if metadata_only else None
            answer = await self.transport.send("GET", resource.path(namespace), query=query, accept=accept)
            metadata = answer["metadata"]
            yield Page(answer.pop("items") or [], metadata["resourceVersion"])
            token = metadata.get("continue") or ""
            if not token:
                return

    def watch(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        selector: str = "",
        since: str,
        seconds: int,
        metadata_only: bool = False,
    ) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
        """Events after the resource version `since`, bookmarks among them, for about so many seconds."""
        query = _query(
            watch="1",
            allowWatchBookmarks="true",
            labelSelector=selector,
            resourceVersion=since,
            timeoutSeconds=str(seconds),
        )
        accept = METADATA_ONLY if metadata_only else None
        return self.transport.stream(
            resource.path(namespace), query=query, accept=accept, timeout_seconds=self._watch_silence_seconds
        )

    async def _write(
        self,
        resource: Resource,
        verb: str,
        path: str,
        body: Any,
        content_type: str = "application/json",
        query: str = "",
    ) -> Manifest:
        self._fence()
        written = _manifest(await self.transport.send(verb, path, body=body, content_type=content_type, query=query))
        for callback in self._on_write:
            callback(resource, written)
        return written


def _manifest(answer: Any) -> Manifest:
    assert isinstance(answer, dict), f"the API server sent {type(answer).__name__} for an object"
    return answer


def _place(manifest: Manifest) -> tuple[str | None, str]:
    metadata = manifest["metadata"]
    return metadata.get("namespace"), metadata.get("name", "")


def _query(**fields: str) -> str:
    return urlencode({name: value for name, value in fields.items() if value}, quote_via=quote)


def _uid_differs(error: Invalid) -> bool:
    """A patch whose test fails is refused with no more than a status; a schema violation names its fields."""
    return error.status == 422 and not error.fields
