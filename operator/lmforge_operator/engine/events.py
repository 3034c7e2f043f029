"""Events for `kubectl describe`: what happened, once.

Reconciles are level-based and say the same thing again and again. An Event's name is therefore a function of what it
says, so that saying it twice is one object; and what was said lately isn't sent at all. They are written one after the
other beside the work that they tell of: in a burst, statuses come first.
"""

import asyncio
import hashlib
import logging
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from lmforge_operator.errors import ApiError
from lmforge_operator.kube.client import Kube
from lmforge_operator.kube.resources import EVENTS
from lmforge_operator.manifests import Manifest

log = logging.getLogger(__name__)

EventType = Literal["Normal", "Warning"]
CONTROLLER = "lmforge.dev/operator"
REMEMBERED = 4096
NOTE_LIMIT = 1024


@dataclass(frozen=True)
class Event:
    """One line of `kubectl describe`."""

    type: EventType
    reason: str
    message: str


class EventRecorder:
    """Writes Events about our objects. Losing one is no error: nothing depends on them."""

    def __init__(self, kube: Kube, *, instance: str, now: Callable[[], datetime]) -> None:
        self._kube = kube
        self._instance = instance[:128]
        self._now = now
        self._said: OrderedDict[str, None] = OrderedDict()
        self._unwritten: deque[Manifest] = deque(maxlen=REMEMBERED)
        self._news = asyncio.Event()

    def emit(self, obj: Manifest, *, type: EventType = "Normal", reason: str, message: str) -> None:
        """Says it, unless it was said about this object already."""
        name = _name(obj["metadata"], reason, message)
        if name in self._said:
            self._said.move_to_end(name)
            return
        self._remember(name)
        self._unwritten.append(self._event(obj, name=name, type_=type, reason=reason, message=message))
        self._news.set()

    async def run(self) -> None:
        """Writes what is said, for ever."""
        while True:
            await self._news.wait()
            self._news.clear()
            await self.flush()

    async def flush(self) -> None:
        """Writes what was said so far."""
        while self._unwritten:
            event = self._unwritten[0]
            try:
                await self._kube.create(EVENTS, event)
            except ApiError as error:
                self._said.pop(event["metadata"]["name"], None)
                log.debug("an Event was not written: %s", error)
            if self._unwritten and self._unwritten[0] is event:  # only now: who is cut off here writes it again
                self._unwritten.popleft()

    def _remember(self, name: str) -> None:
        self._said[name] = None
        while len(self._said) > REMEMBERED:
            self._said.popitem(last=False)

    def _event(self, obj: Manifest, *, name: str, type_: EventType, reason: str, message: str) -> Manifest:
        metadata = obj["metadata"]
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": name, "namespace": metadata["namespace"]},
            "eventTime": self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "type": type_,
            "reason": reason,
            "note": message if len(message) <= NOTE_LIMIT else message[: NOTE_LIMIT - 1] + "…",
            "action": reason,
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
            "regarding": {
                "apiVersion": obj["apiVersion"],
                "kind": obj["kind"],
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
                "resourceVersion": metadata.get("resourceVersion", ""),
            },
        }


def _name(metadata: Manifest, reason: str, message: str) -> str:
    said = hashlib.sha256(f"{metadata['uid']}\n{reason}\n{message}".encode()).hexdigest()[:16]
    return f"{metadata['name'][:200]}.{said}"
