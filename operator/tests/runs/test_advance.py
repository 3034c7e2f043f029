"""The life of a run, moment by moment."""

from lmforge_api.common import InputStatus
from lmforge_operator.inputs.gather import Inputs
from lmforge_operator.labels import Reason
from lmforge_operator.runs.run import rfc3339
from tests.runs.builders import (
    TWO_AT_WORK,
    artifact,
    at,
    attempt,
    decide,
    ended_pod,
    job,
    pod,
    report,
    spec,
    status,
)


def test_a_new_run_starts_its_first_attempt() -> None:
    decision = decide(status=status(phase="Pending"))
    assert decision.launch is not None
    assert (decision.launch.number, decision.launch.nodes, decision.launch.start_step) == (1, 2, 0)
    assert (decision.status.phase, decision.status.restarts) == ("Starting", 0)


def test_a_run_whose_input_is_missing_waits_and_says_for_what() -> None:
    waiting = Inputs(waiting_for="TrainingJob base: it is Running at 40%")
    decision = decide(status=status(phase="Pending"), inputs=waiting)
    assert decision.launch is None
    assert decision.status.phase == "Pending"
    assert decision.status.message == "Waits for TrainingJob base: it is Running at 40%."
    assert decision.look_again


def test_a_reporting_attempt_is_running_with_its_numbers() -> None:
    heard = report(step=248, checkpoint=200, tokens_per_second=18234.0, eta_seconds=100.0)
    decided = decide(status=status(attempt()), jobs={1: job()}, pods=TWO_AT_WORK, report=heard).status
    assert decided.phase == "Running"
    shown = decided.progress
    assert (shown.percent, shown.display, shown.loss, shown.tokens_per_second, shown.eta) == (
        "62%",
        "248/400",
        "3.41",
        "18.2k",
        "1m40s",
    )
    assert decided.checkpoint is not None
    assert decided.checkpoint.step == 200


def test_a_finished_job_is_a_success_with_its_artifact_even_if_only_the_last_words_say_so() -> None:
    last_words = report(step=400, artifact=artifact(), stage="Finished")
    end = ended_pod(0, 0, reason="Completed")
    assert end.report is not None
    end = type(end)(**{**end.__dict__, "report": end.report.model_copy(update={"progress": last_words})})
    decided = decide(
        status=status(attempt()), jobs={1: job(complete=True)}, pods=(end, ended_pod(1, 0, reason="Completed"))
    ).status
    assert decided.phase == "Succeeded"
    assert decided.artifact == artifact()
    assert decided.progress.percent == "100%"
    assert decided.attempts[0].outcome == "Succeeded"


def test_suspending_asks_for_a_checkpoint_and_keeps_the_pods_until_it_is_there() -> None:
    decision = decide(
        spec=spec(suspend=True),
        status=status(attempt()),
        jobs={1: job()},
        pods=TWO_AT_WORK,
        report=report(step=77, checkpoint=50),
    )
    assert (decision.status.phase, decision.ask_stop, decision.delete_jobs) == ("Suspending", 1, ())


def test_a_confirmed_suspension_frees_the_pods_and_says_where_it_stands() -> None:
    pods = (ended_pod(0, 75, reason="Suspended", step=78), ended_pod(1, 75, reason="Suspended", step=78))
    decision = decide(
        spec=spec(suspend=True),
        status=status(attempt()),
        jobs={1: job()},
        pods=pods,
        report=report(step=78, checkpoint=78),
    )
    assert decision.status.phase == "Suspended"
    assert decision.status.message == "Suspended at step 78; set suspend to false to go on."
    assert decision.delete_jobs == ("tiny-tj-1",)
    assert decision.launch is None


def test_a_suspension_without_an_answer_ends_after_its_grace() -> None:
    asked = decide(
        spec=spec(suspend=True), status=status(attempt()), jobs={1: job()}, pods=TWO_AT_WORK, report=report(step=7)
    ).status
    later = decide(
        spec=spec(suspend=True), status=asked, jobs={1: job()}, pods=TWO_AT_WORK, report=report(step=7), now=300
    )
    assert later.status.phase == "Suspended"


def test_resuming_goes_on_from_the_checkpoint_and_counts_as_no_restart() -> None:
    suspended = status(
        attempt(1, outcome="Suspended", step=78, ended_at=rfc3339(at(5))), phase="Suspended", checkpoint={"step": 78}
    )
    decision = decide(status=suspended, generation=2)
    assert decision.launch is not None
    assert (decision.launch.number, decision.launch.start_step) == (2, 78)
    assert decision.status.restarts == 0


def test_an_image_that_does_not_exist_is_said_and_correcting_it_replaces_the_attempt() -> None:
    stuck = pod(0, phase="Pending", started=False, waiting_reason="ImagePullBackOff", waiting_message="not found: x:1")
    observed = {"status": status(attempt()), "jobs": {1: job()}, "pods": (stuck, pod(1, started=False))}
    said = decide(**observed).status
    assert (said.phase, said.reason) == ("Pending", "ImagePullFailed")
    assert said.message.startswith("1 of 2 pods can't pull the image: not found: x:1.")
    corrected = decide(**observed, template_hash="t2", generation=2)
    assert corrected.launch is not None
    assert corrected.launch.number == 2
    assert corrected.status.attempts[0].reason == Reason.SPEC_CHANGED


def test_the_deadline_counts_only_the_time_of_attempts() -> None:
    first = attempt(1, outcome="Suspended", ended_at=rfc3339(at(40)))
    observed = {"spec": spec(activeDeadlineSeconds=60), "jobs": {2: job(2)}, "pods": (pod(0, 2), pod(1, 2))}
    resumed = status(first, attempt(2, started=1000))
    assert decide(**observed, status=resumed, now=1015).status.phase == "Starting"
    over = decide(**observed, status=resumed, now=1030)
    assert (over.status.phase, over.status.reason) == ("Failed", Reason.DEADLINE_EXCEEDED)
    assert over.delete_jobs == ("tiny-tj-2",)


def test_a_finished_run_is_deleted_after_its_time_to_live() -> None:
    done = status(attempt(outcome="Succeeded"), phase="Succeeded", finished_at=rfc3339(at(0)))
    waits = decide(spec=spec(ttlSecondsAfterFinished=60), status=done, now=20)
    assert (waits.delete_self, waits.look_again) == (False, 40)
    assert decide(spec=spec(ttlSecondsAfterFinished=60), status=done, now=61).delete_self


def test_inputs_are_pinned_under_the_uri_that_people_know() -> None:
    found = {"dataset": InputStatus(name="dataset", source="Dataset/docs", uri="pvc://corpus/docs")}
    heard = report(step=1, inputs=[{"name": "dataset", "uri": "file:///mnt/pvc/corpus/docs", "digest": "sha256:ab"}])
    inputs = Inputs(found=found)
    decided = decide(status=status(attempt()), jobs={1: job()}, pods=TWO_AT_WORK, report=heard, inputs=inputs).status
    assert decided.inputs == [
        InputStatus(name="dataset", source="Dataset/docs", uri="pvc://corpus/docs", digest="sha256:ab")
    ]


def test_pods_get_a_moment_to_find_a_node_before_status_calls_them_stuck() -> None:
    unbound = pod(0, node="", phase="Pending", started=False, unschedulable="pod has unbound PersistentVolumeClaims")
    observed = {"status": status(attempt(started=0)), "jobs": {1: job()}, "pods": (unbound, pod(1, started=False))}
    assert decide(**observed, now=2).status.phase == "Starting"
    later = decide(**observed, now=8).status
    assert (later.phase, later.reason) == ("Pending", Reason.UNSCHEDULABLE)
