"""What to do when an attempt is over: another attempt, now or later, or the end.

User's rules go first, then the built-in ones. Infrastructure's faults don't count towards `maxRestarts`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from lmforge_api.common import Attempt
from lmforge_api.run_fields import FailurePolicy
from lmforge_operator.labels import Reason
from lmforge_operator.runs.causes import Cause

SAME_FAILURE_LIMIT = 3
LONGEST_DELAY = 300.0
_HOPELESS = frozenset({Reason.USER_ERROR, Reason.DATA_ERROR, Reason.DEADLINE_EXCEEDED})


@dataclass(frozen=True)
class Verdict:
    """`action` as in a FailureRule."""

    action: str
    why: str = ""
    reason: str = ""


def judge(cause: Cause, attempts: Sequence[Attempt], policy: FailurePolicy) -> Verdict:
    """What follows from this cause. `attempts` are all ended ones, this one included as the last."""
    action = _action(cause, policy)
    if action == "Fail":
        return Verdict("Fail", f"{cause.message}.", cause.reason)
    if action == "RestartFree":
        return Verdict("RestartFree")
    if _same_failure(attempts) >= SAME_FAILURE_LIMIT:
        step = attempts[-1].step
        return Verdict(
            "Fail",
            f"{cause.message}. The same happened {SAME_FAILURE_LIMIT} times at step {step}: "
            "that points to the code or the data, not the machines.",
            Reason.SAME_FAILURE,
        )
    if sum(attempt.counted for attempt in attempts) > policy.max_restarts:
        return Verdict(
            "Fail",
            f"{cause.message}. failurePolicy.maxRestarts ({policy.max_restarts}) is used up.",
            Reason.RESTART_LIMIT,
        )
    return Verdict("Restart")


def counts(cause: Cause, policy: FailurePolicy) -> bool:
    """Whether this end counts towards maxRestarts."""
    return _action(cause, policy) == "Restart"


def delay(attempts: Sequence[Attempt]) -> float:
    """Seconds to wait after the last attempt: none while the run gets on, else doubling from one second."""
    fruitless = sum(1 for _ in takewhile(_fruitless, reversed(attempts)))
    return 0.0 if fruitless < 2 else min(2.0 ** (fruitless - 2), LONGEST_DELAY)


def _action(cause: Cause, policy: FailurePolicy) -> str:
    for rule in policy.rules:
        if cause.exit_code in rule.on_exit_codes or cause.reason in rule.on_reasons:
            return rule.action
    if cause.reason in _HOPELESS:
        return "Fail"
    return "RestartFree" if cause.infrastructure else "Restart"


def _same_failure(attempts: Sequence[Attempt]) -> int:
    """How many of the newest attempts failed for the same reason at the same step."""
    if not attempts:
        return 0
    last = attempts[-1]
    same = takewhile(lambda a: a.counted and (a.reason, a.step) == (last.reason, last.step), reversed(attempts))
    return sum(1 for _ in same)


def _fruitless(attempt: Attempt) -> bool:
    return attempt.outcome in ("Failed", "Preempted") and attempt.step <= attempt.start_step
