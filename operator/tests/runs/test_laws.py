"""What holds for every run, whatever happens: attempts follow each other, and asking twice changes nothing."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from lmforge_api.common import RunStatus
from lmforge_operator.labels import Reason
from lmforge_operator.runs.admission import Place
from lmforge_operator.runs.advance import advance
from lmforge_operator.runs.observed import PodSeen
from lmforge_operator.runs.run import Decision, Run
from lmforge_operator.runs.timers import HEARTBEAT
from tests.runs.builders import TWO_AT_WORK, at, decide, ended_pod, job, pod, report, run, spec, status

CODES = (0, 1, 64, 65, 66, 67, 68, 69, 70, 71, 75, 137, 143)


@st.composite
def pods(draw: st.DrawFn, number: int) -> tuple[PodSeen, ...]:
    """Any state that the pods of an attempt can be in."""
    found = []
    for index in range(draw(st.integers(0, 2))):
        alive = pod(index, number, deleting=draw(st.booleans()), started=draw(st.booleans()))
        pending = pod(index, number, node="", phase="Pending", started=False, unschedulable="no room")
        over = ended_pod(index, draw(st.sampled_from(CODES)), number)
        found.append(draw(st.sampled_from((alive, over, pending))))
    return tuple(found)


@st.composite
def moments(draw: st.DrawFn) -> list[dict[str, object]]:
    """A life: what is seen at each of some moments, the current attempt filled in while it is lived."""
    length = draw(st.integers(1, 12))
    return [
        {
            "pods": draw(st.integers(0, 9).flatmap(lambda _: pods(number=0))),
            "job": draw(st.sampled_from(("missing", "there", "held", "taken back", "failed", "complete"))),
            "wait": draw(st.integers(0, 400)),
            "step": draw(st.none() | st.integers(0, 400)),
            "suspend": draw(st.booleans()),
            "deadline": draw(st.sampled_from((None, 300))),
            "elastic": draw(st.booleans()),
            "queue": draw(st.sampled_from((None, "team"))),
        }
        for _ in range(length)
    ]


def _see(before: RunStatus, moment: dict[str, object], now: float) -> Run:
    number = before.attempts[-1].number if before.attempts else 0
    held = {"suspended": True, "place": Place("team")}
    state = {
        "there": {},
        "held": held,
        "taken back": held | {"place": Place("team", taken_back="Preempted")},
        "failed": {"failed_pods": 1},
        "complete": {"complete": True},
    }.get(str(moment["job"]))
    seen = tuple(replace(p, attempt=number, name=f"tiny-tj-{number}-{p.index}") for p in moment["pods"])  # type: ignore[attr-defined]
    step = moment["step"]
    return run(
        now=now,
        spec=spec(
            suspend=moment["suspend"],
            scheduling={"queue": moment["queue"]},
            activeDeadlineSeconds=moment["deadline"],
            failurePolicy={"hangTimeoutSeconds": 60},
        ),
        nodes_that_fit=(1, 2) if moment["elastic"] else (),
        status=before,
        jobs={number: job(number, **state)} if state is not None and number else {},
        pods=seen if state is not None else (),
        report=report(number, step=step, checkpoint=step) if isinstance(step, int) and number else None,
    )


def _laws(before: RunStatus, decision: Decision) -> None:
    after = decision.status
    numbers = [attempt.number for attempt in after.attempts]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True
    assert sum(attempt.outcome == "Running" for attempt in after.attempts) <= 1
    assert all(attempt.outcome != "Running" for attempt in after.attempts[:-1])
    assert len(after.attempts) - len(before.attempts) in (0, 1)
    if decision.launch:
        assert decision.launch == after.attempts[-1]
        assert after.phase not in ("Succeeded", "Failed", "Suspended")
    if after.phase in ("Succeeded", "Failed", "Suspended"):
        assert all(attempt.outcome != "Running" for attempt in after.attempts)
    assert after.message
    assert after.phase in ("Succeeded", "Failed", "Suspended") or decision.look_again
    for former, later in zip(before.attempts, after.attempts, strict=False):
        assert former.outcome in ("Running", later.outcome)


@given(moments())
def test_attempts_are_consecutive_and_at_most_one_is_under_way(life: list[dict[str, object]]) -> None:
    now, current = 0.0, status(phase="Pending")
    for moment in life:
        now += float(str(moment["wait"]))
        seen = _see(current, moment, now)
        decision = advance(seen)
        _laws(current, decision)
        current = type(current).model_validate(decision.status.wire())


@given(moments())
def test_asking_again_before_anything_was_carried_out_gives_the_same_answer(life: list[dict[str, object]]) -> None:
    now, current = 0.0, status(phase="Pending")
    for moment in life:
        now += float(str(moment["wait"]))
        seen = _see(current, moment, now)
        assert advance(seen) == advance(seen)
        current = type(current).model_validate(advance(seen).status.wire())


@given(moments(), st.floats(0, 0.99))
def test_time_alone_changes_nothing_before_the_moment_that_was_named(
    life: list[dict[str, object]], share: float
) -> None:
    now, current = 0.0, status(phase="Pending")
    for moment in life:
        now += float(str(moment["wait"]))
        seen = _see(current, moment, now)
        decision = advance(seen)
        current = type(current).model_validate(decision.status.wire())
        wait = min(share * (decision.look_again or HEARTBEAT), HEARTBEAT)
        later = advance(replace(seen, status=current, now=seen.now + timedelta(seconds=wait)))
        assert later.launch is None
        assert _said(later.status) == _said(current)


def _said(status: RunStatus) -> dict[str, object]:
    """All but the words that count seconds."""
    counting = {"message": "", "conditions": []} if status.reason == Reason.BACKING_OFF else {}
    return status.model_copy(update=counting).wire()


def test_a_status_that_was_written_is_not_written_again() -> None:
    observed = {"jobs": {1: job()}, "pods": TWO_AT_WORK, "report": report(step=9), "reported_at": at(29)}
    first = decide(status=status(phase="Pending"))
    second = decide(status=first.status, **observed)
    third = decide(status=second.status, **observed, now=33)
    assert second.status.wire() == third.status.wire()
