"""A run in a queue: what it waits for, and what becomes of it when its queue takes the pods back."""

from dataclasses import replace
from typing import Any

import pytest

from lmforge_api.common import Attempt, CheckpointStatus, Condition
from lmforge_operator.labels import Reason
from lmforge_operator.runs import events
from lmforge_operator.runs.admission import Place, read_place
from lmforge_operator.runs.ends import SUSPEND_GRACE
from lmforge_operator.runs.observed import JobSeen, read_jobs
from lmforge_operator.runs.run import active_seconds, rfc3339
from tests.runs.builders import START, TWO_AT_WORK, at, attempt, decide, ended_pod, job, pod, report, spec, status

IN_TEAM = spec(scheduling={"queue": "team"})
NO_QUOTA = "couldn't assign flavors to pod set main: insufficient unused quota for cpu in flavor default, 1 more needed"
PREEMPTED = "Preempted to accommodate a workload (UID: 7, JobUID: 8) due to prioritization in the ClusterQueue"


def held(number: int = 1, **place: Any) -> JobSeen:
    """A Job that its queue keeps suspended."""
    return replace(job(number), suspended=True, place=Place("team", **{"workload": "job-tiny", **place}))


def queued(number: int = 1, **changes: Any) -> Attempt:
    """An attempt that has to pass the queue."""
    return attempt(number, queue="team", **changes)


def admitted(number: int = 1, *, seconds: float = 10) -> Attempt:
    """One that has passed it."""
    return queued(number, admitted_at=rfc3339(at(seconds)))


WAITS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no Kueue": (
        {"kueue": False, "workload": ""},
        Reason.NOT_INSTALLED,
        "Queue team (scheduling.queue) is for Kueue 0.15 or newer to keep, which is not installed here: install it, or "
        "take scheduling.queue out.",
    ),
    "not seen yet": ({"workload": ""}, Reason.QUEUED, "Waits for Kueue to take Job tiny-tj-1 into queue team."),
    "no quota": ({"waits": NO_QUOTA}, Reason.QUEUED, f"Waits for quota in queue team: {NO_QUOTA}."),
    "no such queue": (
        {"waits": "LocalQueue team doesn't exist"},
        Reason.QUEUE_MISSING,
        "LocalQueue team doesn't exist in this namespace: `kubectl get localqueues` lists those that do; correct "
        "scheduling.queue, or create it.",
    ),
    "checks": (
        {"quota_since": at(0)},
        Reason.QUEUED,
        "Has quota in queue team; starts when its admission checks have passed.",
    ),
    "deactivated": (
        {"active": False},
        Reason.QUEUED,
        "Workload job-tiny was taken out of queue team; to let it queue again: "
        '`kubectl patch workload job-tiny --type merge -p \'{"spec":{"active":true}}\'`.',
    ),
}


@pytest.mark.parametrize(("place", "reason", "message"), WAITS.values(), ids=WAITS)
def test_a_run_that_its_queue_holds_says_why(place: dict[str, Any], reason: str, message: str) -> None:
    decided = decide(spec=IN_TEAM, status=status(queued()), jobs={1: held(**place)}).status
    assert (decided.phase, decided.reason, decided.message) == ("Pending", reason, message)


def test_a_place_is_read_from_kueues_workload() -> None:
    manifest = {
        "metadata": {"name": "job-tiny-1"},
        "spec": {"active": False},
        "status": {
            "conditions": [
                {"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": NO_QUOTA},
                {"type": "Evicted", "status": "True", "reason": "Preempted", "message": PREEMPTED},
                {"type": "Requeued", "status": "False", "reason": "Deactivated", "message": "x"},
            ]
        },
    }
    assert read_place("team", [manifest]) == Place(
        "team",
        workload="job-tiny-1",
        active=False,
        waits=NO_QUOTA,
        taken_back="Preempted",
        taken_back_message=PREEMPTED,
        queues_again=False,
    )


def test_a_job_finds_its_own_workload_among_others() -> None:
    labels = {"lmforge.dev/attempt": "1", "kueue.x-k8s.io/queue-name": "team"}
    manifest = {"metadata": {"name": "tiny-1", "uid": "u1", "creationTimestamp": rfc3339(START), "labels": labels}}
    workloads = [{"metadata": {"name": f"of-{uid}"}, "job": uid} for uid in ("u0", "u1")]
    assert read_jobs([manifest], workloads=workloads)[1].place == Place("team", workload="of-u1")
    assert read_jobs([manifest])[1].place == Place("team", kueue=False)


def test_an_attempt_has_begun_when_its_queue_lets_it_start() -> None:
    decided = decide(now=60, spec=IN_TEAM, status=status(queued()), jobs={1: job()}, pods=TWO_AT_WORK).status
    assert decided.attempts[0].admitted_at == rfc3339(at(60))
    assert decided.phase == "Starting"


def test_time_in_a_queue_counts_towards_no_deadline() -> None:
    hurried = spec(scheduling={"queue": "team"}, activeDeadlineSeconds=100)
    waits = decide(now=5000, spec=hurried, status=status(queued()), jobs={1: held(waits=NO_QUOTA)})
    assert waits.status.phase == "Pending"
    assert active_seconds([queued(), admitted(2, seconds=4990)], at(5000)) == 10
    late = decide(now=5000, spec=hurried, status=status(admitted(seconds=4000)), jobs={1: job()}, pods=(pod(0),))
    assert late.status.reason == Reason.DEADLINE_EXCEEDED


def test_pods_that_their_queue_takes_back_are_suspending_and_no_fault() -> None:
    """However they end meanwhile, and although nothing is heard of them."""
    taken = held(taken_back="Preempted", taken_back_message=PREEMPTED)
    for pods in ((pod(0, deleting=True), pod(1)), (ended_pod(0, 143), pod(1, deleting=True))):
        decision = decide(
            now=5000,
            spec=IN_TEAM,
            status=status(admitted()),
            jobs={1: taken},
            pods=pods,
            report=report(step=120, checkpoint=100),
            reported_at=at(100),
        )
        assert (decision.status.phase, decision.status.reason) == ("Suspending", Reason.PREEMPTED)
        assert decision.status.message == (
            f"Queue team took the pods back (Preempted): {PREEMPTED}. The pods save a checkpoint and go."
        )
        assert decision.launch is None
        assert decision.look_again == SUSPEND_GRACE


def test_when_they_have_gone_the_next_attempt_queues_and_goes_on_from_their_checkpoint() -> None:
    taken = held(taken_back="Preempted", taken_back_message=PREEMPTED)
    before = status(admitted(), checkpoint=CheckpointStatus(step=100))
    last_words = ended_pod(0, 75, reason="Suspended", step=120)
    decision = decide(now=60, spec=IN_TEAM, status=before, jobs={1: taken}, pods=(last_words,))
    first, second = decision.status.attempts
    assert (first.outcome, first.reason, first.counted) == ("Suspended", Reason.PREEMPTED, False)
    assert (second.number, second.start_step, second.queue, second.admitted_at) == (2, 100, "team", None)
    assert decision.launch == second
    assert decision.status.restarts == 0
    assert decision.delete_jobs == ("tiny-tj-1",)
    waits = decide(now=61, spec=IN_TEAM, status=decision.status, jobs={2: held(2, waits=NO_QUOTA)}).status
    assert (waits.phase, waits.reason) == ("Pending", Reason.QUEUED)
    assert waits.message == (
        f"Attempt 1 ended at step 0: queue team took the pods back (Preempted): {PREEMPTED}. "
        f"Waits for quota in queue team: {NO_QUOTA}. It goes on from step 100 then."
    )


def test_an_attempt_whose_queue_lets_it_start_again_is_over_all_the_same() -> None:
    """Its pods would be others, and report as the same attempt."""
    conditions = [
        {"type": "QuotaReserved", "status": "True", "message": "", "lastTransitionTime": rfc3339(at(50))},
        {"type": "Evicted", "status": "False", "reason": "QuotaReserved", "message": f"Previously: {PREEMPTED}"},
    ]
    workload = {"metadata": {"name": "job-tiny"}, "status": {"conditions": conditions}}
    again = replace(job(), place=read_place("team", [workload]))
    pods = (ended_pod(0, 75), pod(1))
    decision = decide(now=60, spec=IN_TEAM, status=status(admitted(seconds=10)), jobs={1: again}, pods=pods)
    first, second = decision.status.attempts
    assert (first.outcome, first.reason, first.message) == (
        "Suspended",
        Reason.PREEMPTED,
        f"queue team took the pods back (Preempted): {PREEMPTED}",
    )
    assert (decision.launch, decision.status.restarts) == (second, 0)
    # The quota that it began with is older than its beginning, as we saw it.
    begun = decide(now=60, spec=IN_TEAM, status=status(admitted(seconds=50)), jobs={1: again}, pods=TWO_AT_WORK)
    assert begun.launch is None


def test_its_end_is_an_event() -> None:
    taken = held(taken_back="Preempted", taken_back_message="for another")
    before = status(admitted())
    said = list(events.between(before.wire(), decide(spec=IN_TEAM, status=before, jobs={1: taken}).status))
    assert [(event.type, event.reason) for event in said] == [("Warning", "Preempted"), ("Normal", "AttemptQueued")]


def test_pods_that_never_go_hold_the_next_attempt_back_only_so_long() -> None:
    taken = held(taken_back="Preempted", taken_back_message=PREEMPTED)
    asked = Condition(type="Suspended", status="True", reason=Reason.PREEMPTED)
    asked = asked.model_copy(update={"last_transition_time": rfc3339(at(0))})
    before = status(admitted(), conditions=[asked])
    lost = (pod(0, deleting=True),)
    kept = decide(now=SUSPEND_GRACE - 1, spec=IN_TEAM, status=before, jobs={1: taken}, pods=lost)
    assert (kept.launch, kept.look_again) == (None, 1)
    assert decide(now=SUSPEND_GRACE, spec=IN_TEAM, status=before, jobs={1: taken}, pods=lost).launch is not None


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ({"queues_again": False}, "Kueue will put it into queue team again when that is over."),
        ({"quota_since": at(0)}, "Kueue hasn't given the quota in queue team back yet."),
        ({"active": False}, "to let it queue again: `kubectl patch workload job-tiny"),
    ],
    ids=["its queue is stopped", "Kueue has not said yet", "an administrator took it out"],
)
def test_what_kueue_holds_back_does_not_slip_into_the_queue_by_a_new_job(place: dict[str, Any], words: str) -> None:
    taken = held(taken_back="ClusterQueueStopped", taken_back_message="The ClusterQueue is stopped", **place)
    decision = decide(now=5000, spec=IN_TEAM, status=status(admitted()), jobs={1: taken})
    assert (decision.launch, decision.delete_jobs) == (None, ())
    assert (decision.status.phase, decision.status.reason) == ("Pending", Reason.EVICTED)
    assert words in decision.status.message
