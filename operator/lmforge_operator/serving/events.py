"""Events that matter: what changed between two statuses, in the words that `kubectl describe` prints."""

from collections.abc import Iterator, Mapping
from typing import Any

from lmforge_api.inferenceservice import CanaryStatus, InferenceServiceStatus
from lmforge_operator.engine.events import Event
from lmforge_operator.labels import Reason

_OF_NOTE = ("Ready", "Idle", "Stopped")


def between(before: Mapping[str, Any], after: InferenceServiceStatus) -> Iterator[Event]:
    """What happened, oldest first."""
    if after.update_revision and after.update_revision != before.get("updateRevision"):
        yield Event("Normal", "RevisionStarted", f"Revision {after.update_revision} of {_model(after)} is started.")
    failed, former = after.failed_revision, before.get("failedRevision") or {}
    if failed and (failed.revision, failed.time) != (former.get("revision"), former.get("time")):
        yield Event("Warning", Reason.ROLLED_BACK, f"Revision {failed.revision} was rolled back: {failed.message}")
    yield from _canary(before.get("canary") or {}, after.canary)
    if after.current_revision and after.current_revision != before.get("currentRevision"):
        yield Event("Normal", "RevisionServes", f"Revision {after.current_revision} serves.")
    steps = ((before.get("scaling") or {}).get("last") or [{}])[-1]
    for step in after.scaling.last[-1:]:
        if step.wire() != steps:
            yield Event("Normal", "Scaled", f"From {step.from_} to {step.to} replicas: {step.why}.")
    former_words = {each["name"]: each.get("message", "") for each in before.get("adapters") or ()}
    for adapter in after.adapters:
        if adapter.message and adapter.message != former_words.get(adapter.name):
            yield Event("Warning", Reason.ADAPTER_FAILED, f"Adapter {adapter.name}: {adapter.message}")
    changed = (after.phase, after.reason) != (before.get("phase"), before.get("reason"))
    if changed and after.phase == "Degraded":
        yield Event("Warning", after.reason, after.message)
    elif changed and after.phase in _OF_NOTE:
        yield Event("Normal", after.phase, after.message)


def _canary(before: Mapping[str, Any], after: CanaryStatus | None) -> Iterator[Event]:
    if after is None or after.phase == "Loading":
        return
    former = (before.get("phase"), before.get("percent")) if before.get("revision") == after.revision else ()
    if after.phase == "Measuring" and (after.phase, after.percent) != former:
        yield Event("Normal", "CanaryStep", f"{after.percent}% of requests go to revision {after.revision}.")
    if after.phase == "Shifting" and after.phase not in former:
        yield Event("Normal", "CanaryPassed", f"Revision {after.revision} has passed its last step and takes over.")


def _model(status: InferenceServiceStatus) -> str:
    return status.model.source if status.model else "its model"
