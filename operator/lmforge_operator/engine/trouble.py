"""How an object says that it could not be reconciled: a condition `Reconciled`, and an Event.

The condition is there only while there is trouble, so that a healthy object costs no write.
"""

import logging
from contextlib import suppress

from lmforge_api.common import Condition
from lmforge_operator.engine.conditions import set_condition
from lmforge_operator.engine.context import Context
from lmforge_operator.errors import ApiError, LeadershipLost
from lmforge_operator.kube.resources import Key
from lmforge_operator.manifests import Manifest

log = logging.getLogger(__name__)

CONDITION = "Reconciled"
MESSAGE_LIMIT = 2000


class Trouble:
    """Writes and removes the condition. Failing to do so is logged and no more: the retry will do it again."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def report(self, key: Key, manifest: Manifest, *, reason: str, message: str) -> None:
        """Says what is wrong, on the object and in an Event."""
        wrong = Condition(
            type=CONDITION,
            status="False",
            reason=reason,
            message=message[:MESSAGE_LIMIT],
            observed_generation=manifest["metadata"].get("generation"),
        )
        try:
            self._context.events.emit(manifest, type="Warning", reason=reason, message=message)
            current = self._context.objects.get(key)
            if current is not None:
                await self._write(key, current, set_condition(_conditions(current), wrong, self._context.now()))
        except (ApiError, LeadershipLost) as error:
            log.warning("trouble could not be reported: %s", error, extra={"key": key})

    async def clear(self, key: Key, manifest: Manifest) -> None:
        """After a reconcile that went well. Looks at the former status first: nearly always there is nothing to do."""
        if not _troubled(manifest):
            return
        current = self._context.objects.get(key)
        if current is None or not _troubled(current):
            return
        with suppress(ApiError):
            await self._write(key, current, [entry for entry in _conditions(current) if entry.type != CONDITION])

    async def _write(self, key: Key, current: Manifest, conditions: list[Condition]) -> None:
        status = current.get("status") or {}
        wire = [condition.wire() for condition in conditions]
        if wire == status.get("conditions"):
            return
        resource = self._context.objects.resource(key.kind)
        await self._context.kube.write_status(
            resource, key.namespace, key.name, status | {"conditions": wire}, uid=current["metadata"]["uid"]
        )


def _troubled(manifest: Manifest) -> bool:
    conditions = (manifest.get("status") or {}).get("conditions") or ()
    return any(condition["type"] == CONDITION for condition in conditions)


def _conditions(manifest: Manifest) -> list[Condition]:
    return [Condition.model_validate(entry) for entry in (manifest.get("status") or {}).get("conditions") or ()]
