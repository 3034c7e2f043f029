"""The life of a run when something fails: what is tried again, from where, and what it is put down to."""

import pytest

from lmforge_operator.labels import Reason
from lmforge_operator.runs.advance import advance
from lmforge_operator.runs.run import rfc3339
from tests.runs.builders import (
    TWO_AT_WORK,
    at,
    attempt,
    decide,
    ended_pod,
    failed,
    job,
    pod,
    report,
    run,
    spec,
    status,
)


def test_a_killed_pod_ends_the_attempt_and_the_next_one_starts_in_the_same_decision() -> None:
    decision = decide(
        status=status(attempt()),
        jobs={1: job()},
        pods=(ended_pod(0, 71, reason="PeerLost"), ended_pod(1, 137)),
        report=report(step=231, checkpoint=200),
    )
    first, second = decision.status.attempts
    assert (first.outcome, first.reason, first.step, first.pod, first.exit_code) == (
        "Failed",
        "Killed",
        231,
        "tiny-tj-1-1",
        137,
    )
    assert decision.launch == second
    assert (second.number, second.start_step) == (2, 200)
    assert decision.delete_jobs == ("tiny-tj-1",)
    assert decision.status.phase == "Restarting"


def test_the_message_after_a_restart_names_cause_step_and_cost() -> None:
    attempts = (
        failed(1, reason="NodeLost", step=231, message="node node-1 stopped answering (pod tiny-tj-1-1)"),
        attempt(2, start_step=200, step=200),
    )
    heard = report(2, step=205, checkpoint=200, start_step=200)
    decided = decide(
        status=status(*attempts), jobs={2: job(2)}, pods=(pod(0, 2), pod(1, 2)), report=heard, now=60
    ).status
    assert decided.message == (
        "Resumed at step 200 on attempt 2: node node-1 stopped answering (pod tiny-tj-1-1) (attempt 1, step 231). "
        "31 steps were repeated."
    )


def test_the_culprit_is_found_even_when_it_reports_after_its_peers() -> None:
    first = failed(1, reason=Reason.PEER_LOST, counted=False)
    late = ended_pod(1, 137)
    late = type(late)(**{**late.__dict__, "exit_reason": "OOMKilled"})
    decided = decide(
        status=status(first, attempt(2)), jobs={2: job(2)}, pods=(ended_pod(0, 71, reason="PeerLost"), late)
    ).status
    assert (decided.attempts[0].reason, decided.attempts[0].counted) == (Reason.OUT_OF_MEMORY, True)


def test_a_lost_node_explains_lost_peers() -> None:
    first = failed(1, reason=Reason.PEER_LOST, counted=True)
    pods = (ended_pod(0, 71, reason="PeerLost"), pod(1, deleting=True))
    decided = decide(
        status=status(first, attempt(2)), jobs={2: job(2)}, pods=pods, lost_nodes=frozenset({"node-1"})
    ).status
    assert decided.attempts[0].reason == Reason.NODE_LOST
    assert decided.attempts[0].message == "node node-1 stopped answering (pod tiny-tj-1-1)"
    assert not decided.attempts[0].counted


@pytest.mark.parametrize(
    ("reason", "code"), [("UserError", 64), ("DataError", 65)], ids=["impossible spec", "unreadable data"]
)
def test_what_a_restart_cannot_cure_fails_at_once(reason: str, code: int) -> None:
    pods = (ended_pod(0, code, reason=reason, message="corpus.jsonl:17 is not JSON"), pod(1))
    decision = decide(status=status(attempt()), jobs={1: job()}, pods=pods)
    assert (decision.status.phase, decision.launch) == ("Failed", None)
    assert decision.status.message == "corpus.jsonl:17 is not JSON."
    assert decision.delete_jobs == ()  # its log is still to be read


def test_a_failed_run_is_tried_again_when_its_spec_is_changed() -> None:
    over = status(failed(1), phase="Failed", finished_at=rfc3339(at(2)))
    assert advance(run(status=over)).launch is None
    again = advance(run(status=over, generation=2, jobs={1: job()}))
    assert again.launch is not None
    assert again.launch.number == 2
    assert not again.status.attempts[0].counted


def test_the_same_failure_at_the_same_step_three_times_points_to_code_or_data() -> None:
    policy = {"maxRestarts": 10}
    before = [failed(n, reason="InternalError", step=123, start_step=100) for n in (1, 2)]
    pods = (ended_pod(0, 70, 3, reason="InternalError", message="index out of range", step=123), pod(1, 3))
    decided = decide(
        spec=spec(failurePolicy=policy),
        status=status(*before, attempt(3, start_step=100)),
        jobs={3: job(3)},
        pods=pods,
        report=report(3, step=123, start_step=100),
    ).status
    assert (decided.phase, decided.reason) == ("Failed", Reason.SAME_FAILURE)


def test_restarts_are_counted_against_the_limit_but_lost_nodes_are_not() -> None:
    lost = [failed(n, reason="NodeLost", step=10 * n, start_step=10 * n - 5, counted=False) for n in (1, 2, 3, 4)]
    counted = failed(5, step=99, start_step=50)
    observed = {
        "spec": spec(failurePolicy={"maxRestarts": 1}),
        "jobs": {6: job(6)},
        "pods": (ended_pod(0, 1, 6), pod(1, 6)),
        "report": report(6, step=120, start_step=50),
    }
    on = decide(status=status(*lost, attempt(6, start_step=50)), **observed)
    assert on.launch is not None
    over = decide(status=status(*lost, counted, attempt(6, start_step=50)), **observed)
    assert (over.status.phase, over.status.reason) == ("Failed", Reason.RESTART_LIMIT)


def test_attempts_that_get_nowhere_are_spaced_out() -> None:
    fruitless = [failed(n, reason="PeerLost", step=0, counted=False) for n in (1, 2, 3, 4)]
    decision = decide(status=status(*fruitless), now=5)
    assert decision.launch is None
    assert (decision.status.phase, decision.look_again) == ("Restarting", 3.0)
    assert decide(status=status(*fruitless), now=9).launch is not None


def test_a_silent_run_says_so_and_is_restarted_after_the_hang_timeout() -> None:
    observed = {
        "spec": spec(failurePolicy={"hangTimeoutSeconds": 60}),
        "status": status(attempt()),
        "jobs": {1: job()},
        "pods": TWO_AT_WORK,
        "report": report(step=9),
        "reported_at": at(10),
    }
    quiet = decide(**observed, now=40).status
    assert (quiet.phase, quiet.reason) == ("Running", Reason.SILENT)
    dead = decide(**observed, now=200).status
    assert dead.attempts[0].reason == Reason.HANG


def test_an_elastic_run_takes_fewer_nodes_after_it_lost_one_and_more_again_later() -> None:
    lost = failed(1, reason="NodeLost", nodes=4, step=60, start_step=10, counted=False)
    smaller = decide(status=status(lost), nodes_that_fit=(1, 2, 4))
    assert smaller.launch is not None
    assert smaller.launch.nodes == 2
    other = failed(2, reason="Exited", nodes=2, step=90, start_step=60)
    larger = decide(status=status(lost, other), nodes_that_fit=(1, 2, 4))
    assert larger.launch is not None
    assert larger.launch.nodes == 4


def test_a_job_deleted_by_somebody_ends_the_attempt_but_not_before_the_watch_can_know() -> None:
    fresh = decide(status=status(attempt(started=28)), now=30)
    assert (fresh.launch, fresh.status.attempts[0].outcome) == (None, "Running")
    assert fresh.look_again
    gone = decide(status=status(attempt(started=0)), now=30)
    assert gone.status.attempts[0].reason == Reason.JOB_DELETED
    assert gone.launch is not None
    assert gone.launch.number == 2
