"""The status of an object: written when it changed, and then told of in Events."""

from collections.abc import Iterable

from lmforge_operator.engine.context import Context
from lmforge_operator.engine.events import Event
from lmforge_operator.kube.resources import Resource
from lmforge_operator.manifests import Manifest


async def write(
    context: Context, resource: Resource, manifest: Manifest, after: Manifest, news: Iterable[Event]
) -> None:
    """Puts `after` in the place of the manifest's status, and emits `news` unless the object is gone."""
    if after == (manifest.get("status") or {}):
        return
    meta = manifest["metadata"]
    written = await context.kube.write_status(resource, meta["namespace"], meta["name"], after, uid=meta["uid"])
    if written is None:
        return
    for event in news:
        context.events.emit(manifest, type=event.type, reason=event.reason, message=event.message)
