"""Is the current attempt over, and how? An ordered chain: the first answer counts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from lmforge_api.common import Attempt, RunStatus
from lmforge_operator.engine.conditions import find
from lmforge_operator.labels import ConditionType, Reason
from lmforge_operator.pods.holdups import Finding
from lmforge_operator.pods.state import timestamp
from lmforge_operator.runs.admission import held_back, withdrawal
from lmforge_operator.runs.causes import Cause, end_of
from lmforge_operator.runs.run import Run, active_seconds, begun_at, seconds_since
from lmforge_operator.runs.waiting import Waiting, first_finding

CACHE_LAG = 5.0
"""Seconds in which a Job that another replica created just now may be missing from this one's watch."""
SUSPEND_GRACE = 120.0
"""Seconds that a run gets to save the checkpoint that a suspension, or its queue, asks for."""
WATCHDOG_MARGIN = 30.0
"""Seconds that the pods' own watchdogs get beyond the hang timeout before the operator steps in."""
UNSCHEDULABLE_PATIENCE = 20.0
"""Seconds after which an elastic attempt that finds no room is tried with fewer nodes."""

Outcome = Literal["Succeeded", "Failed", "Suspended", "Preempted"]


@dataclass(frozen=True)
class End:
    """How an attempt ended."""

    outcome: Outcome
    cause: Cause


def end(run: Run, attempt: Attempt) -> End | None:
    """How this attempt ended, or None while it goes on."""
    return next((found for check in _CHECKS if (found := check(run, attempt))), None)


def _complete(run: Run, attempt: Attempt) -> End | None:
    job = run.jobs.get(attempt.number)
    return End("Succeeded", Cause(Reason.COMPLETED, "All ranks finished")) if job and job.complete else None


def _taken_back(run: Run, attempt: Attempt) -> End | None:
    """Its queue ended it, the pods have gone, and the next attempt may queue."""
    cause = taken_back(run, attempt)
    if cause is not None and not run.jobs[attempt.number].suspended:
        return End("Suspended", cause)  # an attempt starts its processes once
    if cause is None or held_back_by_queue(run, attempt):
        return None
    asked = asked_to_stop_at(run.status)
    overdue = asked is not None and seconds_since(asked, run.now) >= SUSPEND_GRACE
    gone = all(pod.ended for pod in run.pods_of(attempt.number))
    return End("Suspended", cause) if gone or overdue else None


def taken_back(run: Run, attempt: Attempt) -> Cause | None:
    """Why its queue ended what it had admitted, if it did: by suspending the Job, which it may have let start again."""
    job = run.jobs.get(attempt.number)
    if job is None or job.place is None or not attempt.admitted_at:
        return None
    if not job.suspended and not job.place.was_let_go_after(attempt.admitted_at):
        return None
    found = withdrawal(job.place)
    return Cause(found.reason, found.message, infrastructure=True)


def held_back_by_queue(run: Run, attempt: Attempt) -> str:
    """Why its queue would not take another attempt now, or nothing."""
    job = run.jobs.get(attempt.number)
    return held_back(job.place) if job and job.place else ""


def _over(run: Run, attempt: Attempt) -> End | None:
    if taken_back(run, attempt):
        return None  # what becomes of the pods now says nothing about them
    job = run.jobs.get(attempt.number)
    cause = end_of(job, run.pods_of(attempt.number), nodes=attempt.nodes) if job else None
    if cause is None:
        return None
    if run.spec.suspend and (cause.reason == Reason.SUSPENDED or cause.infrastructure):
        return End("Suspended", cause)
    graceful = cause.reason in (Reason.PREEMPTED, Reason.EVICTED, Reason.POD_DELETED, Reason.SUSPENDED)
    return End("Preempted" if graceful else "Failed", cause)


def _job_gone(run: Run, attempt: Attempt) -> End | None:
    job = run.jobs.get(attempt.number)
    if job is None and seconds_since(attempt.started_at, run.now) >= CACHE_LAG:
        return End("Failed", Cause(Reason.JOB_DELETED, "its Job was deleted", infrastructure=True))
    if job is not None and job.deleting:
        return End("Failed", Cause(Reason.JOB_DELETED, f"Job {job.name} was deleted", infrastructure=True))
    return None


def _deadline(run: Run, attempt: Attempt) -> End | None:
    limit = run.spec.active_deadline_seconds
    if limit is None or active_seconds(run.status.attempts, run.now) < limit:
        return None
    return End("Failed", Cause(Reason.DEADLINE_EXCEEDED, f"activeDeadlineSeconds ({limit}) is over"))


def _suspended_idle(run: Run, attempt: Attempt) -> End | None:
    """Asked to suspend before there is anything to save, or without an answer."""
    if not run.spec.suspend:
        return None
    if run.report_of(attempt.number) is None:
        return End("Suspended", Cause(Reason.SUSPENDED, "suspended before its first report", infrastructure=True))
    asked = asked_to_stop_at(run.status)
    if asked and seconds_since(asked, run.now) >= SUSPEND_GRACE:
        message = f"no checkpoint was confirmed within {SUSPEND_GRACE:.0f} s"
        return End("Suspended", Cause(Reason.SUSPENDED, message, infrastructure=True))
    return None


def asked_to_stop_at(status: RunStatus) -> str | None:
    """When the attempt was asked for a checkpoint, by a suspension or by its queue."""
    asked = find(status.conditions, ConditionType.SUSPENDED)
    reasons = (Reason.CHECKPOINT_REQUESTED, Reason.PREEMPTED, Reason.EVICTED)
    return asked.last_transition_time if asked and asked.status == "True" and asked.reason in reasons else None


def _silent(run: Run, attempt: Attempt) -> End | None:
    """The pods run but rank 0 has said nothing for the whole hang timeout: its own watchdog hangs too."""
    quiet = silence(run, attempt)
    if quiet is None or quiet < longest_silence(run):
        return None
    return End("Failed", Cause(Reason.HANG, f"no progress report for {quiet:.0f} s"))


def longest_silence(run: Run) -> float:
    """Seconds without a report after which an attempt hangs."""
    return run.spec.failure_policy.hang_timeout_seconds + WATCHDOG_MARGIN


def silence(run: Run, attempt: Attempt) -> float | None:
    """Seconds since the attempt last reported, or None when it never did, or can't."""
    if taken_back(run, attempt):
        return None
    if run.report and run.reported_at and run.report.attempt == attempt.number:
        return (run.now - run.reported_at).total_seconds()
    updated = run.status.progress.updated_at
    if not updated or not attempt.started_at or timestamp(updated) <= timestamp(attempt.started_at):
        return None
    return seconds_since(updated, run.now)


def _replaced(run: Run, attempt: Attempt) -> End | None:
    """The pods' template changed while the attempt got nowhere, e.g. its image was corrected."""
    job = run.jobs.get(attempt.number)
    if job is None or job.template_hash == run.template_hash or run.report_of(attempt.number):
        return None
    return End(
        "Preempted", Cause(Reason.SPEC_CHANGED, "the spec was changed before it got to work", infrastructure=True)
    )


def _no_room(run: Run, attempt: Attempt) -> End | None:
    if not any(size < attempt.nodes for size in run.nodes_that_fit):
        return None
    found = lacks_room(run, attempt)
    if found is None or seconds_since(begun_at(attempt), run.now) < UNSCHEDULABLE_PATIENCE:
        return None
    return End("Preempted", Cause(Reason.UNSCHEDULABLE, found.message, infrastructure=True))


def lacks_room(run: Run, attempt: Attempt) -> Finding | None:
    """What keeps its pods from being scheduled, if that is what it waits for."""
    found = first_finding(Waiting(run.jobs.get(attempt.number), run.pods_of(attempt.number), attempt.nodes))
    return found if found and found.reason == Reason.UNSCHEDULABLE else None


Check = Callable[[Run, Attempt], End | None]
_CHECKS: tuple[Check, ...] = (
    _complete,
    _taken_back,
    _over,
    _job_gone,
    _deadline,
    _suspended_idle,
    _silent,
    _replaced,
    _no_room,
)
