"""Phase, reason and message of a run: the words that the person at 3 a.m. reads."""

from lmforge_api.common import Attempt, RunPhase, RunStatus
from lmforge_operator.labels import Reason
from lmforge_operator.pods.holdups import Finding, sentence
from lmforge_operator.runs.ends import held_back_by_queue, silence, taken_back
from lmforge_operator.runs.run import Run, begun_at, seconds_since, was_cut_short
from lmforge_operator.runs.waiting import Waiting, first_finding
from lmforge_operator.words import counted

QUIET = 10.0
"""Seconds without a report (they come every second) after which status says so."""

SETTLING = 5.0
"""Seconds in which pods may lack a node: volumes are being bound, the former attempt's pods still leave."""

Words = tuple[RunPhase, str, str]


def at_work(run: Run, status: RunStatus, attempt: Attempt) -> Words:
    """How an attempt that is under way is doing."""
    if taken_back(run, attempt):
        return _on_its_way_back(run, status, attempt)
    if run.report_of(attempt.number) is None and silence(run, attempt) is None:
        return phase_of_wait(run, status, attempt)
    if run.spec.suspend:
        return (
            "Suspending",
            Reason.CHECKPOINT_REQUESTED,
            f"Asked for a checkpoint at step {attempt.step}; the pods go then.",
        )
    quiet = silence(run, attempt) or 0.0
    if quiet >= QUIET:
        limit = run.spec.failure_policy.hang_timeout_seconds
        since = run.status.progress.updated_at
        return (
            "Running",
            Reason.SILENT,
            f"No progress report since {since}; after {limit} s without a step it is restarted.",
        )
    return "Running", Reason.TRAINING, _running_message(run, status, attempt)


def phase_of_wait(run: Run, status: RunStatus, attempt: Attempt) -> Words:
    """What an attempt waits for before it reports for the first time."""
    again = any(a.outcome in ("Failed", "Preempted") for a in status.attempts[:-1])
    phase: RunPhase = "Restarting" if again else "Starting"
    found = first_finding(Waiting(run.jobs.get(attempt.number), run.pods_of(attempt.number), attempt.nodes))
    settling = seconds_since(begun_at(attempt), run.now) < SETTLING and found and found.reason == Reason.UNSCHEDULABLE
    if found and found.stuck and not settling:
        return ("Restarting" if again else "Pending"), found.reason, sentence(found.message)
    if found and found.reason == Reason.QUEUED:
        return "Pending", found.reason, _queued_message(status, found)
    what = found.message if found else "all pods have started; waiting for the first report"
    return phase, Reason.STARTING, f"{repeated_work(status)} {sentence(what)}".strip()


def repeated_work(status: RunStatus) -> str:
    """What the last failure was and what it cost, for an attempt that follows one."""
    ended = [attempt for attempt in status.attempts if was_cut_short(attempt)]
    if not ended:
        return ""
    last = ended[-1]
    return f"Attempt {last.number} ended at step {last.step}: {last.message.rstrip('.')}."


def _on_its_way_back(run: Run, status: RunStatus, attempt: Attempt) -> Words:
    """Its queue has ended it: first the pods go, then it may be held back."""
    cause = taken_back(run, attempt)
    assert cause is not None
    held = held_back_by_queue(run, attempt)
    if held and all(pod.ended for pod in run.pods_of(attempt.number)):
        return "Pending", cause.reason, f"{sentence(cause.message)} {sentence(held)}"
    return "Suspending", cause.reason, f"{sentence(cause.message)} The pods save a checkpoint and go."


def _queued_message(status: RunStatus, found: Finding) -> str:
    goes_on = f" It goes on from step {status.checkpoint.step} then." if status.checkpoint else ""
    return f"{repeated_work(status)} {sentence(found.message)}{goes_on}".strip()


def _running_message(run: Run, status: RunStatus, attempt: Attempt) -> str:
    report = run.report_of(attempt.number)
    said = f" {sentence(report.message)}" if report and report.message else ""
    before = status.attempts[-2] if len(status.attempts) > 1 else None
    if before is None:
        return f"{status.progress.stage or 'Training'} on {counted(attempt.nodes, 'pod')}.{said}"
    resumed = report is not None and report.start_step is not None
    return f"{(_resumed if resumed else _resuming)(before, attempt)}{said}"


def _resuming(before: Attempt, attempt: Attempt) -> str:
    goal = f"to go on from step {attempt.start_step}" if attempt.start_step else "from the beginning"
    return f"Attempt {attempt.number} is starting {goal}: {_why(before)}."


def _resumed(before: Attempt, attempt: Attempt) -> str:
    at = f"Resumed at step {attempt.start_step}" if attempt.start_step else "Started again from the beginning"
    lost = max(0, before.step - attempt.start_step)
    cost = "No work was lost" if lost == 0 else f"{lost} step{'s were' if lost > 1 else ' was'} repeated"
    return f"{at} on attempt {attempt.number}: {_why(before)}. {cost}."


def _why(before: Attempt) -> str:
    return f"{before.message.rstrip('.') or before.reason} (attempt {before.number}, step {before.step})"
