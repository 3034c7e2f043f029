"""When a key is looked at because of what its pods do and say."""

from lmforge_operator.engine.queue import WorkQueue
from lmforge_operator.kube.resources import Key
from lmforge_operator.labels import OWNER_KIND, OWNER_NAME
from lmforge_operator.manifests import Manifest
from lmforge_operator.settings import Settings

LONGEST_PATIENCE = 5.0
"""Seconds after which a change of a child is looked at, however much there is to do."""


class Wakes:
    """Puts the owner of a changed child, or of a reporting pod, into the queue."""

    def __init__(self, queue: WorkQueue[Key], settings: Settings) -> None:
        self._queue = queue
        self._settings = settings

    def child_changed(self, child: Manifest) -> None:
        """A Job, a pod, a Deployment …: at once if something ended."""
        metadata = child["metadata"]
        labels = metadata.get("labels") or {}
        kind, name = labels.get(OWNER_KIND), labels.get(OWNER_NAME)
        if kind and name:
            # A pod is scheduled, pulls, starts and gets ready in quick succession: one look is enough for all of it.
            self._queue.add(Key(kind, metadata["namespace"], name), after=0.0 if _ending(child) else self._patience())

    def reported(self, key: Key, urgent: bool) -> None:
        """A pod told of its progress."""
        self._queue.add(key, at_most_every=0.0 if urgent else self._settings.status_interval_seconds)

    def _patience(self) -> float:
        """Longer while much is ready: what is new goes first, and more of the rest is looked at together."""
        settings = self._settings.queue
        return min(LONGEST_PATIENCE, settings.patience_seconds * (1 + self._queue.ready() / settings.workers))


def _ending(child: Manifest) -> bool:
    """Whether something is over, or going: what the next attempt may wait for."""
    status = child.get("status") or {}
    if "deletionTimestamp" in child["metadata"] or status.get("phase") in ("Failed", "Succeeded"):
        return True
    if any(container.get("state", {}).get("terminated") for container in status.get("containerStatuses") or ()):
        return True
    return any(condition["type"] in ("Complete", "Failed") for condition in status.get("conditions") or ())
