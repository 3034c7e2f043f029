"""Conditions of a run, as a function of its phase: for programs, `kubectl wait` and Argo CD."""

from lmforge_api.common import Condition, RunStatus
from lmforge_operator.labels import ConditionType, Reason
from lmforge_operator.runs.run import Run, rfc3339

_ORDER = (
    ConditionType.INPUTS_READY,
    ConditionType.SCHEDULED,
    ConditionType.RUNNING,
    ConditionType.SUSPENDED,
    ConditionType.COMPLETE,
    ConditionType.FAILED,
)


def conditions_of(run: Run, status: RunStatus) -> list[Condition]:
    """All conditions; a time of transition is kept while its status (or, for Suspended, its reason) stays."""
    before = {condition.type: condition for condition in run.status.conditions}
    return [_condition(run, status, kind, before.get(kind)) for kind in _ORDER]


def _condition(run: Run, status: RunStatus, kind: str, before: Condition | None) -> Condition:
    holds = _holds(run, status, kind)
    relevant = holds == (kind not in (ConditionType.INPUTS_READY, ConditionType.SCHEDULED, ConditionType.RUNNING))
    reason = status.reason if relevant and status.reason else (kind if holds else "NotYet")
    value = "True" if holds else "False"
    unchanged = before is not None and (before.status, before.reason) == (value, reason)
    return Condition.model_validate(
        {
            "type": kind,
            "status": value,
            "reason": reason,
            "message": status.message if relevant else "",
            "lastTransitionTime": before.last_transition_time if before and unchanged else rfc3339(run.now),
            "observedGeneration": run.generation,
        }
    )


def _holds(run: Run, status: RunStatus, kind: str) -> bool:
    if kind == ConditionType.INPUTS_READY:
        return run.inputs.ready
    if kind == ConditionType.SCHEDULED:
        pods = run.pods_of(status.attempts[-1].number) if status.attempts else ()
        return bool(pods) and all(pod.node for pod in pods) and status.reason != Reason.UNSCHEDULABLE
    return {
        ConditionType.RUNNING: status.phase == "Running",
        ConditionType.SUSPENDED: status.phase in ("Suspending", "Suspended"),
        ConditionType.COMPLETE: status.phase == "Succeeded",
        ConditionType.FAILED: status.phase == "Failed",
    }[kind]
