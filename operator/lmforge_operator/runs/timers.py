"""When to look again: the first moment at which time alone, without any news, changes what is decided or said.

Looking at every run every few seconds would be simpler, and with thousands of them cost a core.
"""

from collections.abc import Callable

from lmforge_api.common import Attempt, RunStatus
from lmforge_operator.labels import Reason
from lmforge_operator.runs import ends
from lmforge_operator.runs.run import Run, active_seconds, begun_at, seconds_since
from lmforge_operator.runs.story import QUIET, SETTLING

HEARTBEAT = 600.0
"""Seconds after which a run is looked at even so, in case some news was lost."""
NODE_POLL = 10.0
"""Seconds between two looks at nodes, whose changes nobody watches."""

Timer = Callable[[Run, RunStatus, Attempt], float | None]


def until_next_look(run: Run, status: RunStatus, attempt: Attempt) -> float:
    """Seconds for which this status of an attempt under way holds, unless there is news."""
    found = (timer(run, status, attempt) for timer in _TIMERS)
    return min((left for left in found if left is not None and left > 0), default=HEARTBEAT)


def _job_missing(run: Run, _: RunStatus, attempt: Attempt) -> float | None:
    return None if attempt.number in run.jobs else ends.CACHE_LAG - seconds_since(attempt.started_at, run.now)


def _deadline(run: Run, status: RunStatus, _: Attempt) -> float | None:
    limit = run.spec.active_deadline_seconds
    return None if limit is None else limit - active_seconds(status.attempts, run.now)


def _suspension(run: Run, status: RunStatus, attempt: Attempt) -> float | None:
    stopping = run.spec.suspend or ends.taken_back(run, attempt)
    asked = ends.asked_to_stop_at(status) if stopping else None
    return None if asked is None else ends.SUSPEND_GRACE - seconds_since(asked, run.now)


def _silence(run: Run, _: RunStatus, attempt: Attempt) -> float | None:
    quiet = ends.silence(run, attempt)
    if quiet is None:
        return None
    return (QUIET if quiet < QUIET else ends.longest_silence(run)) - quiet


def _no_room(run: Run, status: RunStatus, attempt: Attempt) -> float | None:
    """Said once the pods have settled; tried with fewer nodes when patience is over."""
    if not ends.lacks_room(run, attempt):
        return None
    waited = seconds_since(begun_at(attempt), run.now)
    return (SETTLING if waited < SETTLING else ends.UNSCHEDULABLE_PATIENCE) - waited


def _unexplained(run: Run, status: RunStatus, _: Attempt) -> float | None:
    """Pods that only lost a peer are still there: one of their nodes may turn out to be lost."""
    lost = (each.number for each in status.attempts if each.reason == Reason.PEER_LOST)
    return NODE_POLL if any(run.pods_of(number) for number in lost) else None


_TIMERS: tuple[Timer, ...] = (_job_missing, _deadline, _suspension, _silence, _no_room, _unexplained)
