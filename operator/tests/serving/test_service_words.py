"""What a service says of itself: phase, message, conditions, counts; and that only the truth is called ready."""

from dataclasses import replace
from typing import Any

import pytest
from serving_builders import DOWN, NEW, OLD, UP, at, desired, loading, pod, revision, serving, spec, status

from lmforge_api.inferenceservice import FailedRevision, InferenceServiceStatus
from lmforge_operator.serving.autoscaler import Held
from lmforge_operator.serving.decide import decide, failure
from lmforge_operator.serving.events import between
from lmforge_operator.serving.load import Load
from lmforge_operator.serving.service import Model, Part, Serving

ROLLING = {"status": desired(1, current_revision=OLD)}
ZERO = spec(autoscaling={"minReplicas": 0, "maxReplicas": 3, "scaleDownDelaySeconds": 0})
CRASHED = loading(restarts=3, last_exit_code=1, last_words="ValueError: bad")
WAITS = Model("trainingjob/tiny", waiting_for="waits for TrainingJob tiny: it is Running at 40%")

PHASES = {
    "the first look": (serving(status=status(observed_generation=0), front=""), "Loading", "0/1", "is being made"),
    "waiting for a model": (
        serving(model=WAITS, update="", status=status(observed_generation=0)), "Pending", "0/1",
        "Waits for TrainingJob tiny: it is Running at 40%.",
    ),
    "waiting for a new model": (
        serving(revision(OLD, pod(OLD)), model=WAITS, update="", **ROLLING), "Updating", "0/1",
        f"Waits for TrainingJob tiny: it is Running at 40%. Revision {OLD} keeps serving.",
    ),
    "loading": (
        serving(revision(NEW, loading()), status=desired(1)), "Loading", "0/1",
        f"Revision {NEW}: 0 of 1 replicas are ready; the model is being loaded.",
    ),
    "no router yet": (serving(revision(NEW, pod()), router=DOWN), "Loading", "1/1", "Replicas are ready; the router"),
    "ready": (serving(revision(NEW, pod())), "Ready", "1/1", "1 of 1 replicas are ready."),
    "more to come": (
        serving(revision(NEW, pod(), replicas=3), spec=spec(replicas=3)), "Ready", "1/3", "1 of 3 replicas are ready.",
    ),
    "an update": (
        serving(revision(OLD, pod(OLD)), revision(NEW, loading()), **ROLLING), "Updating", "0/1",
        f"Revision {NEW}: 0 of 1 replicas are ready; the model is being loaded. Revision {OLD} keeps serving.",
    ),
    "a failed update": (
        serving(revision(OLD, pod(OLD)), revision(NEW, CRASHED), **ROLLING), "Degraded", "0/1",
        f"Revision {NEW} was rolled back: Pod {NEW}-0 ends with exit code 1 (3 times): ValueError: bad. "
        f"Revision {OLD} keeps serving.",
    ),
    "a failed first revision": (
        serving(revision(NEW, CRASHED), status=desired(1)), "Degraded", "0/1",
        f"Pod {NEW}-0 ends with exit code 1 (3 times): ValueError: bad.",
    ),
    "a router without an image": (
        serving(revision(NEW, pod()), router=Part(None, (loading(waiting_reason="ErrImagePull"),))), "Degraded", "1/1",
        "The router can't start: 1 of 1 pods can't pull the image: ErrImagePull.",
    ),
    "asleep, and nothing holds requests yet": (
        serving(
            revision(NEW), spec=ZERO, status=desired(0, current_revision=NEW), held=Held(),
            gateway=Part(wanted=True),
        ),
        "Loading", "0/0", "Scaled to zero; the gateway, which holds requests, is starting.",
    ),
    "idle, and never yet shown to work": (
        serving(revision(NEW, loading()), spec=ZERO, status=desired(1), held=Held(), gateway=UP),
        "Loading", "0/1", f"Revision {NEW}: 0 of 1 replicas are ready; the model is being loaded.",
    ),
    "asleep": (
        serving(revision(NEW), spec=ZERO, status=desired(0, current_revision=NEW), held=Held(), gateway=UP),
        "Idle", "0/0", "Scaled to zero: the next request is held until a replica is ready.",
    ),
    "stopped": (serving(revision(NEW), spec=spec(stopped=True)), "Stopped", "0/0", "Stopped; set stopped to false"),
}  # fmt: skip


@pytest.mark.parametrize(("seen", "phase", "ready", "message"), PHASES.values(), ids=PHASES.keys())
def test_a_service_says_how_it_is(seen: Serving, phase: str, ready: str, message: str) -> None:
    told = decide(seen).status
    assert (told.phase, told.ready) == (phase, ready)
    assert message in told.message


def conditions(seen: Serving) -> dict[str, str]:
    return {each.type: each.status for each in decide(seen).status.conditions}


def test_an_update_keeps_the_service_available_and_is_progress_until_it_has_taken_over() -> None:
    half = serving(revision(OLD, pod(OLD)), revision(NEW, loading()), **ROLLING)
    assert conditions(half) == {
        "InputsReady": "True", "EngineReady": "False", "RouterReady": "True", "Available": "True",
        "Progressing": "True", "Degraded": "False",
    }  # fmt: skip
    done = serving(revision(OLD, pod(OLD), replicas=0), revision(NEW, pod()), **ROLLING)
    assert conditions(done)["Progressing"] == "False"
    assert decide(done).status.current_revision == NEW


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    first = decide(serving(revision(NEW, pod()))).status
    later = decide(serving(revision(NEW, pod()), now=200, status=first)).status
    assert later.wire() == first.wire()
    changed = decide(serving(revision(NEW, loading()), now=300, status=later)).status
    moved = [each.type for each in changed.conditions if each.last_transition_time == "2026-01-02T03:09:05Z"]
    assert moved == ["EngineReady", "Available", "Progressing"]


def test_a_revision_that_was_given_up_stays_so_until_another_is_asked_for_or_it_gets_more_time() -> None:
    former = FailedRevision(revision=NEW, ready_deadline_seconds=900, reason="CrashLoop", message="M.")
    before = desired(1, current_revision=OLD, failed_revision=former)
    gone = serving(revision(OLD, pod(OLD)), status=before)
    assert failure(gone) == former
    assert dict(decide(gone).plan.replicas) == {OLD: 1}
    patient = replace(gone, spec=spec(rollout={"readyDeadlineSeconds": 1800}))
    assert failure(patient) is None
    assert failure(replace(gone, update="helpdesk-right")) is None


def test_the_only_revision_is_tried_on_however_often_it_fails() -> None:
    seen = serving(revision(NEW, CRASHED), status=desired(1))
    assert failure(seen) is None
    assert dict(decide(seen).plan.replicas) == {NEW: 1}


SCALES = {
    "one by default": (spec(), 5, 1),
    "as the spec says": (spec(replicas=3), 1, 3),
    "none": (spec(replicas=0), 1, 0),
    "stopped": (spec(replicas=3, stopped=True), 3, 0),
    "external, within bounds": (spec(replicas=9, autoscaling={"engine": "external", "maxReplicas": 4}), 1, 4),
    "external, at least": (
        spec(replicas=0, autoscaling={"engine": "external", "minReplicas": 2, "maxReplicas": 4}), 1, 2,
    ),
    "builtin keeps what it has": (spec(autoscaling={"minReplicas": 1, "maxReplicas": 4}), 3, 3),
}  # fmt: skip


@pytest.mark.parametrize(("asked", "before", "replicas"), SCALES.values(), ids=SCALES.keys())
def test_the_number_of_replicas_has_one_source(asked: Any, before: int, replicas: int) -> None:
    pods = [pod(number=number) for number in range(before)]
    seen = serving(revision(NEW, *pods), spec=asked, held=Held(), load=Load(measured=before))
    seen = replace(seen, status=desired(before, current_revision=NEW))
    assert decide(seen).status.replicas.desired == replicas


def test_a_new_service_that_may_sleep_shows_first_that_it_can_work() -> None:
    assert decide(serving(spec=ZERO, status=InferenceServiceStatus(), held=None)).plan.replicas == {NEW: 1}


def test_without_an_endpoint_for_demand_a_service_never_sleeps() -> None:
    asleep = serving(spec=ZERO, status=desired(0, current_revision=NEW), held=Held(), hears_demand=False)
    assert decide(asleep).status.replicas.desired == 1


def test_each_change_of_scale_is_kept_with_its_reason_and_the_last_ten_stay() -> None:
    told = status()
    for replicas in range(1, 13):
        told = decide(serving(spec=spec(replicas=replicas), status=told)).status
    assert [(step.from_, step.to) for step in told.scaling.last] == [(n, n + 1) for n in range(2, 12)]
    assert told.scaling.last[0].why == "spec.replicas"


def test_measurements_are_shown_when_it_is_time_and_else_stay() -> None:
    load = Load(measured=1, tokens_per_second=1234.0, first_token_seconds=0.0841)
    shown = decide(serving(revision(NEW, pod()), load=load)).status.performance
    assert (shown.tokens_per_second, shown.time_to_first_token) == ("1.23k", "84ms")
    kept = serving(revision(NEW, pod()), measure=False, status=desired(1, current_revision=NEW))
    assert decide(kept).status.performance == kept.status.performance


def test_the_service_points_at_a_gateway_only_once_it_can_take_over() -> None:
    wanted = Part(None, wanted=True)
    assert decide(serving(gateway=wanted, front="router")).front == "router"
    assert decide(serving(gateway=wanted, front="")).front == "gateway"
    assert decide(serving(gateway=UP, front="router")).front == "gateway"
    assert decide(serving(gateway=wanted, front="gateway")).front == "gateway"
    unwanted = replace(UP, wanted=False)
    assert decide(serving(gateway=unwanted, front="gateway")).front == "gateway"  # no engine could answer yet
    assert decide(serving(revision(NEW, pod()), gateway=unwanted, front="gateway")).front == "router"


def test_what_happened_is_told_once() -> None:
    before = decide(serving(revision(OLD, pod(OLD)), update=OLD, status=desired(1, current_revision=OLD))).status
    rolled = serving(revision(OLD, pod(OLD)), revision(NEW, CRASHED), status=before)
    after = decide(rolled).status
    assert [event.reason for event in between(before.wire(), after)] == ["RevisionStarted", "RolledBack", "CrashLoop"]
    assert list(between(after.wire(), decide(replace(rolled, status=after, now=at(500))).status)) == []
