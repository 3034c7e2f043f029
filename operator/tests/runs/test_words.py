"""Numbers and sentences as `kubectl` prints them."""

from dataclasses import replace

import pytest

from lmforge_api.common import ObjectRef, Progress
from lmforge_operator.inputs.references import missing_claims, resolve
from lmforge_operator.labels import Reason
from lmforge_operator.runs import events, rules
from lmforge_operator.runs.causes import end_of
from lmforge_operator.runs.progress import progress_of
from lmforge_operator.runs.waiting import Waiting, first_finding
from lmforge_operator.words import short_duration, short_number
from tests.runs.builders import attempt, decide, ended_pod, failed, job, pod, report, spec, status


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (730, "730"), (999.6, "1k"), (18234, "18.2k"), (999_700, "1M"), (1.05e6, "1.05M"), (2e9, "2G")],
)
def test_numbers_have_three_digits_and_a_unit(value: float, shown: str) -> None:
    assert short_number(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0s"), (0.4, "0s"), (59.6, "1m"), (100, "1m40s"), (7500, "2h5m"), (86400, "1d"), (273600, "3d4h")],
)
def test_durations_have_their_two_largest_units(seconds: float, shown: str) -> None:
    assert short_duration(seconds) == shown


@pytest.mark.parametrize(
    ("pods", "reason", "words"),
    [
        (
            (pod(0), replace(ended_pod(1, 137), exit_reason="OOMKilled")),
            Reason.OUT_OF_MEMORY,
            "raise resources.memory",
        ),
        (
            (pod(0, phase="Failed", exit_code=143, disruption="EvictionByEvictionAPI"), pod(1)),
            Reason.EVICTED,
            "evicted",
        ),
        (
            (pod(0, deleting=True, disruption="DeletionByTaintManager"), pod(1)),
            Reason.NODE_LOST,
            "node-0 stopped answering",
        ),
        ((pod(0, deleting=True), ended_pod(1, 71, reason="PeerLost")), Reason.POD_DELETED, "was deleted"),
        ((ended_pod(0, 71, reason="PeerLost"), ended_pod(1, 70, reason="InternalError")), "InternalError", "70"),
        ((replace(ended_pod(0, 3), words="Traceback\nKeyError: 'x'"), pod(1)), Reason.EXITED, "KeyError: 'x'"),
        (
            (replace(ended_pod(0, 3), words='{"level": "error", "message": "rank 0 ends: no"}'), pod(1)),
            Reason.EXITED,
            "(Exited): rank 0 ends: no",
        ),
        ((replace(ended_pod(0, 137), words="step 5"), pod(1)), Reason.KILLED, "SIGKILL, exit code 137"),
        (
            (replace(ended_pod(0, 128), exit_reason="StartError", words="exec: no such file"), pod(1)),
            Reason.START_ERROR,
            "no such file",
        ),
    ],
    ids=[
        "out of memory",
        "evicted",
        "node lost",
        "deleted",
        "bug before lost peers",
        "unknown exit",
        "unknown exit in a JSON log",
        "killed",
        "can't start",
    ],
)
def test_the_cause_is_the_pod_that_failed_by_itself_or_what_was_done_to_it(
    pods: tuple[object, ...], reason: str, words: str
) -> None:
    cause = end_of(job(), pods, nodes=2)  # type: ignore[arg-type]
    assert cause is not None
    assert cause.reason == reason
    assert words in cause.message


def test_a_pod_that_vanished_without_a_trace_is_named() -> None:
    cause = end_of(job(failed_pods=1), (pod(0),), nodes=2)
    assert cause is not None
    assert cause.message == "pod tiny-tj-1-1 vanished"


@pytest.mark.parametrize(
    ("detail", "remedy"),
    [
        ('persistentvolumeclaim "corpus" not found', "Create the claim"),
        ("0/2 nodes are available: 2 Insufficient nvidia.com/gpu.", "Lower resources"),
        ("pod has unbound immediate PersistentVolumeClaims", "storage class"),
    ],
)
def test_pods_without_a_node_say_why_and_what_to_do(detail: str, remedy: str) -> None:
    pods = (pod(0, node="", phase="Pending", started=False, unschedulable=detail),)
    found = first_finding(Waiting(job(), pods, 2))
    assert found is not None
    assert found.message.startswith("1 of 2 pods can't be scheduled: ")
    assert remedy in found.message


def test_a_reference_is_waited_for_in_words() -> None:
    base = ObjectRef(kind="TrainingJob", name="base")
    made = {"status": {"phase": "Succeeded", "artifact": {"uri": "pvc://s/a"}}}
    running = {"status": {"phase": "Running", "progress": {"percent": "40%"}}}
    assert resolve(base, None, lambda _k, _n: made).uri == "pvc://s/a"
    assert resolve(base, None, lambda _k, _n: running).waiting_for == "TrainingJob base: it is Running at 40%"
    assert "does not exist" in resolve(base, None, lambda _k, _n: None).waiting_for
    assert missing_claims(["pvc://corpus/x", "", "s3://b/c"], lambda _: False)[0].startswith(
        "PersistentVolumeClaim corpus: it does not exist"
    )


def test_the_users_rules_go_before_the_built_in_ones() -> None:
    chosen = spec(failurePolicy={"rules": [{"onReasons": ["DataError"], "action": "RestartFree"}]}).failure_policy
    cause = end_of(job(), (ended_pod(0, 65, reason="DataError", message="bad line"), pod(1)), nodes=2)
    assert cause is not None
    assert rules.judge(cause, [failed(1, reason="DataError")], chosen).action == "RestartFree"


def test_events_tell_starts_ends_and_the_outcome_once() -> None:
    before = status(attempt(1)).wire()
    after = status(failed(1, message="pod x was killed"), attempt(2, start_step=50), phase="Restarting")
    said = [(event.type, event.reason, event.message) for event in events.between(before, after)]
    assert said == [
        ("Warning", "Exited", "Attempt 1 ended at step 60: pod x was killed."),
        ("Normal", "AttemptStarted", "Attempt 2 started on 2 pods from step 50."),
    ]
    assert list(events.between(after.wire(), after)) == []


def test_an_attempt_that_looks_for_its_checkpoint_is_not_said_to_begin_again() -> None:
    begun = status(failed(1, message="pod x was killed"), attempt(2, start_step=50, step=50))
    seen = {"jobs": {2: job(2)}, "pods": (pod(0, 2), pod(1, 2)), "now": 60}
    looking = decide(status=begun, report=report(2), **seen).status
    assert looking.progress.display == "50/400"
    assert looking.message == "Attempt 2 is starting to go on from step 50: pod x was killed (attempt 1, step 60)."
    damaged = decide(status=looking, report=report(2, start_step=0), **seen).status
    assert damaged.progress.display == "0/400"
    assert damaged.message.startswith("Started again from the beginning on attempt 2: pod x was killed")


def test_one_pod_is_not_called_pods() -> None:
    after = status(attempt(1, nodes=1))
    assert [event.message for event in events.between({}, after)] == ["Attempt 1 started on 1 pod."]


def test_the_newest_evaluation_is_shown_until_a_resumed_attempt_makes_another() -> None:
    before = Progress(step=248, evaluation_loss="2.2000", perplexity="9.03")
    resumed = progress_of(report(step=200), before=before, steps=400, updated_at="")
    assert (resumed.step, resumed.evaluation_loss, resumed.perplexity) == (200, "2.2000", "9.03")
