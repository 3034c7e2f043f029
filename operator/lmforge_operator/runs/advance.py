"""The life of a run: from what is observed to its next status and what has to be done for it.

Level-based: it reads attempts from status, Jobs and pods from the cluster, and gives the same answer however often
it is asked. An attempt that is over is recorded and the next one launched in the same decision, so that a killed pod
costs no round trip.
"""

from lmforge_api.common import Attempt, RunStatus
from lmforge_operator.labels import Reason
from lmforge_operator.runs import rules
from lmforge_operator.runs.absorb import absorb
from lmforge_operator.runs.conditions import conditions_of
from lmforge_operator.runs.ends import End, end
from lmforge_operator.runs.run import Decision, Run, active_seconds, rfc3339, seconds_since
from lmforge_operator.runs.story import SETTLING, at_work, phase_of_wait, repeated_work
from lmforge_operator.runs.timers import HEARTBEAT, until_next_look

KEPT_ATTEMPTS = 20
FINISHED = ("Succeeded", "Failed")


def advance(run: Run) -> Decision:
    """What the status is now and what to do."""
    status = absorb(run)
    if status.phase in FINISHED:
        if not _reopened(run, status):
            return _at_rest(run, status)
        status = _reopen(run, status)
    attempt = current_attempt(status)
    if attempt is None:
        return _next(run, status)
    ended = end(run, attempt)
    if ended is None:
        return _go_on(run, status, attempt)
    return _conclude(run, status, attempt, ended)


def current_attempt(status: RunStatus) -> Attempt | None:
    """The attempt that is under way."""
    return status.attempts[-1] if status.attempts and status.attempts[-1].outcome == "Running" else None


def _conclude(run: Run, status: RunStatus, attempt: Attempt, ended: End) -> Decision:
    """Record the end, then finish or go on with the next attempt."""
    status = _recorded(run, status, attempt, ended)
    if ended.outcome == "Succeeded":
        return _succeeded(run, status)
    if ended.outcome == "Suspended":
        return _next(run, status)
    verdict = rules.judge(ended.cause, status.attempts, run.spec.failure_policy)
    if verdict.action == "Fail":
        return _failed(run, status, verdict.reason, verdict.why)
    return _next(run, status)


def _recorded(run: Run, status: RunStatus, attempt: Attempt, ended: End) -> RunStatus:
    cause = ended.cause
    closed = attempt.model_copy(
        update={
            "ended_at": rfc3339(run.now),
            "outcome": ended.outcome,
            "reason": cause.reason,
            "message": cause.message,
            "pod": cause.pod,
            "node": cause.node,
            "exit_code": cause.exit_code if ended.outcome != "Succeeded" else 0,
            "step": max(attempt.step, cause.step or 0),
            "counted": ended.outcome == "Failed" and rules.counts(cause, run.spec.failure_policy),
        }
    )
    return status.model_copy(update={"attempts": [*status.attempts[:-1], closed]})


def _next(run: Run, status: RunStatus) -> Decision:
    """No attempt is under way: is there a reason not to start one?"""
    if run.spec.suspend:
        return _suspended(run, status)
    limit = run.spec.active_deadline_seconds
    if limit is not None and active_seconds(status.attempts, run.now) >= limit:
        return _failed(run, status, Reason.DEADLINE_EXCEEDED, f"activeDeadlineSeconds ({limit}) is over.")
    if not run.inputs.ready:
        message = f"Waits for {run.inputs.waiting_for}."
        waits = _phase(run, status, "Pending", run.inputs.reason, message)
        return Decision(waits, look_again=HEARTBEAT, delete_jobs=_ended_jobs(run, waits))
    left = _delay_left(run, status)
    if left > 0:
        last = status.attempts[-1]
        message = f"{repeated_work(status)} The next attempt starts in {left:.0f} s.".strip()
        waits = _phase(run, status, "Restarting", Reason.BACKING_OFF, message or last.message)
        return Decision(waits, look_again=left, delete_jobs=_ended_jobs(run, waits))
    return _start(run, status)


def _start(run: Run, status: RunStatus) -> Decision:
    number = status.attempts[-1].number + 1 if status.attempts else 1
    existing = run.jobs.get(number)
    attempt = Attempt(
        number=number,
        started_at=rfc3339(existing.created_at if existing else run.now),
        start_step=status.checkpoint.step if status.checkpoint else 0,
        step=status.checkpoint.step if status.checkpoint else 0,
        nodes=_attempt_nodes(run, status),
        queue=run.spec.scheduling.queue or "",
    )
    status = status.model_copy(
        update={
            "attempts": [*status.attempts, attempt][-KEPT_ATTEMPTS:],
            "nodes": attempt.nodes,
            "lineage": list(run.inputs.lineage) or status.lineage,
            "restarts": sum(a.outcome in ("Failed", "Preempted") for a in status.attempts) if status.attempts else 0,
            "started_at": status.started_at or attempt.started_at,
            "finished_at": None,
        }
    )
    phase, reason, message = phase_of_wait(run, status, attempt)
    status = _phase(run, status, phase, reason, message)
    look_again = min(SETTLING, until_next_look(run, status, attempt))
    return Decision(status, launch=attempt, delete_jobs=_ended_jobs(run, status), look_again=look_again)


def _attempt_nodes(run: Run, status: RunStatus) -> int:
    """Pods of the next attempt: fixed, or for an elastic run fewer after a lack of nodes and else the most."""
    if not run.nodes_that_fit:
        return run.spec.nodes
    last = status.attempts[-1] if status.attempts else None
    if last and last.reason in (Reason.NODE_LOST, Reason.UNSCHEDULABLE):
        smaller = [size for size in run.nodes_that_fit if size < last.nodes]
        return smaller[-1] if smaller else run.nodes_that_fit[0]
    return run.nodes_that_fit[-1]


def _go_on(run: Run, status: RunStatus, attempt: Attempt) -> Decision:
    """The attempt is under way: say how it is, and ask it to stop when it should."""
    ask = attempt.number if run.spec.suspend else None
    phase, reason, message = at_work(run, status, attempt)
    status = _phase(run, status, phase, reason, message)
    return Decision(
        status,
        ask_stop=ask,
        delete_jobs=_ended_jobs(run, status),
        look_again=until_next_look(run, status, attempt),
    )


def _suspended(run: Run, status: RunStatus) -> Decision:
    at = f" at step {status.checkpoint.step}" if status.checkpoint else ""
    message = f"Suspended{at or ' before the first checkpoint'}; set suspend to false to go on."
    status = _phase(run, status.model_copy(update={"nodes": 0}), "Suspended", Reason.SUSPENDED, message)
    return Decision(status, delete_jobs=_ended_jobs(run, status))


def _succeeded(run: Run, status: RunStatus) -> Decision:
    steps = status.progress.steps or run.spec.steps
    finished = f"Finished {steps} steps." if steps else "Finished."
    where = f"The artifact is at {status.artifact.uri}." if status.artifact else ""
    message = " ".join(said for said in (finished, run.own.outcome(status), where) if said)
    done = status.model_copy(update={"finished_at": rfc3339(run.now)})
    done = _phase(run, done, "Succeeded", Reason.COMPLETED, message)
    return Decision(done, look_again=run.spec.ttl_seconds_after_finished)


def _failed(run: Run, status: RunStatus, reason: str, message: str) -> Decision:
    done = status.model_copy(update={"finished_at": rfc3339(run.now), "nodes": 0})
    done = _phase(run, done, "Failed", reason, message)
    last = status.attempts[-1].number if status.attempts else 0
    keep_logs = bool(status.attempts) and status.attempts[-1].reason != Reason.DEADLINE_EXCEEDED
    jobs = tuple(job.name for n, job in sorted(run.jobs.items()) if not job.deleting and not (keep_logs and n == last))
    return Decision(done, delete_jobs=jobs, look_again=run.spec.ttl_seconds_after_finished)


def _at_rest(run: Run, status: RunStatus) -> Decision:
    ttl = run.spec.ttl_seconds_after_finished
    status = status.model_copy(update={"observed_generation": run.generation})
    if ttl is None:
        return Decision(status)
    left = ttl - seconds_since(status.finished_at, run.now)
    return Decision(status, delete_self=left <= 0, look_again=max(left, 0.1))


def _reopened(run: Run, status: RunStatus) -> bool:
    """A failed run is tried again when its spec was changed: more memory, another image, a larger deadline."""
    return status.phase == "Failed" and run.generation > status.observed_generation


def _reopen(run: Run, status: RunStatus) -> RunStatus:
    forgiven = [attempt.model_copy(update={"counted": False}) for attempt in status.attempts]
    return status.model_copy(update={"attempts": forgiven, "phase": "Pending", "finished_at": None})


def _delay_left(run: Run, status: RunStatus) -> float:
    if not status.attempts or run.generation > status.observed_generation:
        return 0.0
    return rules.delay(status.attempts) - seconds_since(status.attempts[-1].ended_at, run.now)


def _ended_jobs(run: Run, status: RunStatus) -> tuple[str, ...]:
    """Jobs of attempts that are recorded as over: nothing more is to be learned from them."""
    current = current_attempt(status)
    return tuple(
        job.name for n, job in sorted(run.jobs.items()) if not job.deleting and (current is None or n < current.number)
    )


def _phase(run: Run, status: RunStatus, phase: str, reason: str, message: str) -> RunStatus:
    update = {"phase": phase, "reason": reason, "message": message, "observed_generation": run.generation}
    status = status.model_copy(update=update)
    return status.model_copy(update={"conditions": conditions_of(run, status)})
