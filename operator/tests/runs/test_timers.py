"""When a run is looked at again although there is no news."""

from typing import Any

import pytest

from lmforge_api.common import Condition
from lmforge_operator.labels import Reason
from lmforge_operator.runs.run import rfc3339
from lmforge_operator.runs.timers import HEARTBEAT
from tests.runs.builders import TWO_AT_WORK, at, attempt, decide, failed, job, pod, report, spec, status

WAITING = {"node": "", "phase": "Pending", "started": False, "unschedulable": "no room"}
AT_WORK: dict[str, Any] = {"now": 30, "jobs": {1: job()}, "pods": TWO_AT_WORK, "status": status(attempt())}
NO_ROOM: dict[str, Any] = AT_WORK | {"pods": (pod(0), pod(1, **WAITING))}
ASKED = Condition(type="Suspended", status="True", reason=Reason.CHECKPOINT_REQUESTED)
ASKED_AT_10 = status(attempt(), conditions=[ASKED.model_copy(update={"last_transition_time": rfc3339(at(10))})])
HANGS_AFTER_60 = spec(failurePolicy={"hangTimeoutSeconds": 60})

CASES: dict[str, tuple[dict[str, Any], float]] = {
    "pods that have started and said nothing yet": (AT_WORK, HEARTBEAT),
    "pods that reported 4 s ago may fall silent": (AT_WORK | {"report": report(), "reported_at": at(26)}, 6),
    "silent pods may hang": (AT_WORK | {"report": report(), "reported_at": at(10), "spec": HANGS_AFTER_60}, 70),
    "a deadline ends it": (AT_WORK | {"spec": spec(activeDeadlineSeconds=100)}, 70),
    "a deadline ends it before its pods have settled": (
        {"now": 40, "status": status(failed(1, ended_at=rfc3339(at(18)))), "spec": spec(activeDeadlineSeconds=20)},
        2,
    ),
    "a suspension waits only so long for its checkpoint": (
        AT_WORK | {"spec": spec(suspend=True), "report": report(), "reported_at": at(29), "status": ASKED_AT_10},
        9,
    ),
    "a silent run's suspension waits only so long": (
        AT_WORK | {"spec": spec(suspend=True), "report": report(), "reported_at": at(12), "status": ASKED_AT_10},
        100,
    ),
    "a Job that the watch may not know yet": (AT_WORK | {"now": 2, "jobs": {}, "pods": ()}, 3),
    "pods that may still be scheduled": (NO_ROOM | {"now": 2}, 3),
    "pods that find no room": (NO_ROOM | {"now": 12}, 8),
    "pods that have found no room for long": (NO_ROOM, HEARTBEAT),
    "a lost peer whose node may turn out to be lost": (
        AT_WORK
        | {
            "status": status(failed(1, reason=Reason.PEER_LOST), attempt(2)),
            "jobs": {2: job(2)},
            "pods": (pod(0, 1, deleting=True), pod(0, 2), pod(1, 2)),
        },
        10,
    ),
}


@pytest.mark.parametrize(("observed", "seconds"), CASES.values(), ids=CASES)
def test_a_run_is_looked_at_again_when_time_alone_changes_something(observed: dict[str, Any], seconds: float) -> None:
    assert decide(**observed).look_again == seconds
