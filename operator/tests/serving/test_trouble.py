"""Why a revision isn't ready, in the order in which it is told, and when it is given up."""

import pytest
from serving_builders import NEW, at, loading, pod, revision

from lmforge_operator.serving.observed import ReplicaSeen, RevisionSeen
from lmforge_operator.serving.trouble import Struggle, cannot_grow, first_finding, given_up

TRACEBACK = "INFO loading\nTraceback (most recent call last):\n  File x\nOSError: config.json is missing\nbye"
# What vLLM 0.32's processes say one after the other, without the lines of code between.
CACHE = (
    "Available memory on node 0 (2.32/4.0 GiB) on kv cache allocation is less than requested memory for kv (500.0 GiB)"
)
VLLM = f"""WorkerProc hit an exception.
Traceback (most recent call last):
    raise ValueError(
ValueError: {CACHE}.

EngineCore failed to start.
Traceback (most recent call last):
RuntimeError: Worker failed with error '{CACHE}', please check the stack trace above for the root cause
Worker proc VllmWorker-0 died unexpectedly (exit code: None), shutting down executor."""
POINTER = "Traceback\nRuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
FULL = "0/2 nodes are available: 2 Insufficient memory."


def struggle(*pods: ReplicaSeen, deadline: float = 900, **changes: object) -> Struggle:
    return Struggle(revision(NEW, *pods, **changes), at(100), deadline)  # type: ignore[arg-type]


FINDINGS = {
    "a refused pod": (
        struggle(replicas=1, refused='pods "x" is forbidden: exceeded quota'),
        "PodsRefused", 'the API server refuses pods: pods "x" is forbidden: exceeded quota',
    ),
    "no image": (
        struggle(loading(waiting_reason="ImagePullBackOff", waiting_message="no such image")),
        "ImagePullFailed",
        "1 of 1 pods can't pull the image: no such image. Correct template.image (or the chart's images), "
        "or name template.imagePullSecrets",
    ),
    "a missing Secret": (
        struggle(loading(waiting_reason="CreateContainerConfigError", waiting_message='secret "hub" not found')),
        "ContainerConfigError", f'pod {NEW}-0 can\'t start: secret "hub" not found',
    ),
    "out of memory": (
        struggle(loading(restarts=2, last_exit_code=137, last_exit_reason="OOMKilled")),
        "OutOfMemory",
        f"pod {NEW}-0 used more memory than its limit and was killed (OOMKilled, exit code 137, 2 times): "
        "raise resources.memory, or lower engineArgs.kvCache or maxModelLen",
    ),
    "a crash with an error": (
        struggle(loading(exit_code=1, words=TRACEBACK)),
        "CrashLoop", f"pod {NEW}-0 ends with exit code 1 (1 time): OSError: config.json is missing",
    ),
    "a crash that other processes point back to": (
        struggle(loading(exit_code=1, words=VLLM)),
        "CrashLoop", f"pod {NEW}-0 ends with exit code 1 (1 time): {CACHE}",
    ),
    "a crash of which only the pointer is left": (
        struggle(loading(exit_code=1, words=POINTER)),
        "CrashLoop",
        f"pod {NEW}-0 ends with exit code 1 (1 time): "
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
    ),
    "a crash without a word": (
        struggle(loading(restarts=1, last_exit_code=137)),
        "CrashLoop", f"pod {NEW}-0 ends with exit code 137 (1 time): it was killed from outside",
    ),
    "no room": (
        struggle(loading(started=False, unschedulable=FULL)),
        "Unschedulable",
        "1 of 1 pods can't be scheduled: 0/2 nodes are available: 2 Insufficient memory. "
        "Lower resources (or nodes), or free a node",
    ),
    "no room yet": (
        struggle(loading(started=False, unschedulable=FULL, created_at=at(98))),
        "Loading", "0 of 1 replicas are ready; pods are being started",
    ),
    "too late": (
        struggle(loading(created_at=at(30)), deadline=60),
        "DeadlineExceeded",
        "its replicas were not ready within rollout.readyDeadlineSeconds (60): look at their logs, or raise it",
    ),
    "loading": (struggle(pod(), loading(number=1)), "Loading", "1 of 2 replicas are ready; the model is being loaded"),
}  # fmt: skip


@pytest.mark.parametrize(("seen", "reason", "message"), FINDINGS.values(), ids=FINDINGS.keys())
def test_what_keeps_replicas_from_getting_ready_is_said(seen: Struggle, reason: str, message: str) -> None:
    found = first_finding(seen)
    assert found is not None
    assert (found.reason, found.message) == (reason, message)


def test_nothing_is_wrong_when_all_are_ready() -> None:
    assert first_finding(struggle(pod(), pod(number=1))) is None


GIVEN_UP = {
    "three ends": (struggle(loading(restarts=3, last_exit_code=1)), "CrashLoop"),
    "two ends": (struggle(loading(restarts=2, last_exit_code=1)), None),
    "an overrun deadline": (struggle(loading(created_at=at(10)), deadline=80), "DeadlineExceeded"),
    "an image that did not come until the deadline": (
        struggle(loading(created_at=at(10), waiting_reason="ErrImagePull"), deadline=80),
        "ImagePullFailed",
    ),
    "time left": (struggle(loading(created_at=at(50)), deadline=80), None),
    "refused until the deadline": (struggle(replicas=1, refused="exceeded quota", deadline=80), "PodsRefused"),
    "ready ones are no reason": (struggle(pod(restarts=9, age=99), deadline=5), None),
}


@pytest.mark.parametrize(("seen", "reason"), GIVEN_UP.values(), ids=GIVEN_UP.keys())
def test_a_revision_is_given_up_when_trying_on_is_of_no_use(seen: Struggle, reason: str | None) -> None:
    found = given_up(seen)
    assert (found.reason if found else None) == reason


@pytest.mark.parametrize(
    ("seen", "grows"),
    [
        (struggle(loading(unschedulable=FULL)), False),
        (struggle(replicas=2, refused="exceeded quota"), False),
        (struggle(loading()), True),
        (struggle(pod(), replicas=1, refused="exceeded quota"), True),
    ],
)
def test_more_replicas_are_of_no_use_where_those_that_are_wanted_find_no_place(seen: Struggle, grows: bool) -> None:
    assert (cannot_grow(seen) is None) == grows


def test_pods_that_drain_or_have_ended_are_not_taken_for_loading() -> None:
    seen: RevisionSeen = revision(NEW, loading(deleting=True), loading(phase="Failed"), pod(deleting=True), replicas=0)
    assert (seen.ready, seen.loading, seen.gone) == (0, 0, False)
    assert revision(NEW, loading(phase="Failed"), replicas=0).gone
