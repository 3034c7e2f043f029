"""Take what the pods have said into status: progress, checkpoint, inputs, artifact, and what an old end really was."""

from lmforge_api.common import Attempt, InputStatus, RunStatus
from lmforge_api.run import ProgressReport
from lmforge_operator.labels import Reason
from lmforge_operator.runs import rules
from lmforge_operator.runs.causes import culprit
from lmforge_operator.runs.progress import progress_of
from lmforge_operator.runs.run import Run, rfc3339


def absorb(run: Run) -> RunStatus:
    """Status with all that was heard since it was written."""
    status = run.status
    if not status.attempts:
        return status
    last = _admitted(run, status.attempts[-1])
    status = status.model_copy(update={"attempts": [*status.attempts[:-1], last]})
    report = run.report_of(last.number)
    if report:
        status = _heard(run, status, last, report)
    return status.model_copy(update={"attempts": [_explained(run, attempt) for attempt in status.attempts]})


def _admitted(run: Run, attempt: Attempt) -> Attempt:
    """Its queue lets a Job start by taking it out of suspension."""
    job = run.jobs.get(attempt.number)
    if not attempt.queue or attempt.admitted_at or attempt.outcome != "Running" or job is None or job.suspended:
        return attempt
    return attempt.model_copy(update={"admitted_at": rfc3339(run.now)})


def _heard(run: Run, status: RunStatus, attempt: Attempt, report: ProgressReport) -> RunStatus:
    moment = run.reported_at if run.report is report and run.reported_at else None
    updated = rfc3339(moment) if moment else status.progress.updated_at or rfc3339(run.now)
    start = attempt.start_step if report.start_step is None else report.start_step
    report = report.model_copy(update={"step": max(report.step, start)})
    attempt = attempt.model_copy(update={"step": max(report.step, attempt.step), "start_step": start})
    before = [_no_less_than(each, start) for each in status.attempts[:-1]]
    steps = report.steps or run.spec.steps or 0
    status = status.model_copy(
        update={
            "attempts": [*before, attempt],
            "progress": progress_of(report, before=status.progress, steps=steps, updated_at=updated),
            "checkpoint": report.checkpoint or status.checkpoint,
            "inputs": [_pinned(run, found) for found in report.inputs] or status.inputs,
            "artifact": report.artifact or status.artifact,
            "derived": {**status.derived, **report.derived},
        }
    )
    return run.own.heard(status, report)


def _no_less_than(former: Attempt, start_step: int) -> Attempt:
    """A pod that was asked to go saves its last step after it was last heard: the next attempt starts from there."""
    return former.model_copy(update={"step": max(former.step, start_step)})


def _pinned(run: Run, found: InputStatus) -> InputStatus:
    """An input with its digest, under the URI that people know it by (the pod sees a mount)."""
    known = run.inputs.found.get(found.name)
    return known.model_copy(update={"digest": found.digest or known.digest}) if known else found


def _explained(run: Run, attempt: Attempt) -> Attempt:
    """The culprit may report later than its peers did: correct the reason while the pods can still be seen."""
    if attempt.reason != Reason.PEER_LOST:
        return attempt
    cause = culprit(run.pods_of(attempt.number), lost_nodes=run.lost_nodes)
    if cause is None or cause.reason == Reason.PEER_LOST:
        return attempt
    return attempt.model_copy(
        update={
            "reason": cause.reason,
            "message": cause.message,
            "pod": cause.pod,
            "node": cause.node,
            "exit_code": cause.exit_code,
            "counted": rules.counts(cause, run.spec.failure_policy),
        }
    )
