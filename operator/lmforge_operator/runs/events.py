"""Events that matter: what changed between two statuses, in the words that `kubectl describe` prints."""

from collections.abc import Iterator, Mapping
from typing import Any

from lmforge_api.common import Attempt, RunStatus
from lmforge_operator.engine.events import Event
from lmforge_operator.labels import Reason
from lmforge_operator.runs.run import was_cut_short
from lmforge_operator.words import counted

_OF_NOTE = ("Succeeded", "Failed", "Suspended", "Suspending")


def between(before: Mapping[str, Any], after: RunStatus) -> Iterator[Event]:
    """What happened, oldest first."""
    known = {attempt["number"]: attempt for attempt in before.get("attempts") or ()}
    for attempt in after.attempts:
        former = known.get(attempt.number)
        if was_cut_short(attempt) and (former is None or former["outcome"] == "Running"):
            yield _ended(attempt)
        if former is None:
            yield _started(attempt)
    if after.phase != before.get("phase") and after.phase in _OF_NOTE:
        yield Event("Warning" if after.phase == "Failed" else "Normal", after.phase, after.message)
    elif after.phase == "Pending" and (after.phase, after.reason) != (before.get("phase"), before.get("reason")):
        yield Event("Normal" if after.reason == Reason.QUEUED else "Warning", after.reason, after.message)


def _started(attempt: Attempt) -> Event:
    if attempt.queue:
        return Event("Normal", "AttemptQueued", f"Attempt {attempt.number} queues in {attempt.queue}.")
    at = f" from step {attempt.start_step}" if attempt.start_step else ""
    pods = counted(attempt.nodes, "pod")
    return Event("Normal", "AttemptStarted", f"Attempt {attempt.number} started on {pods}{at}.")


def _ended(attempt: Attempt) -> Event:
    counted = "" if attempt.counted else " It does not count towards maxRestarts."
    message = f"Attempt {attempt.number} ended at step {attempt.step}: {attempt.message.rstrip('.')}.{counted}"
    return Event("Warning", attempt.reason or "AttemptEnded", message)
