"""How a canary gets its share: gates in a table, each step in another, and laws for any life of a service."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_builders import NEW, OLD, UP, at, desired, loading, pod, revision, serving, spec

from lmforge_api.gateway_run import RevisionCounts
from lmforge_api.inferenceservice import InferenceServiceStatus
from lmforge_api.inferenceservice_parts import CanaryGates
from lmforge_operator.engine.conditions import timestamp
from lmforge_operator.serving.decide import decide
from lmforge_operator.serving.events import between
from lmforge_operator.serving.gates import Counts, failed_gate, total
from lmforge_operator.serving.observed import FrontSeen, RevisionSeen
from lmforge_operator.serving.service import Decision, Serving

STEPS = [{"percent": 10, "seconds": 10}, {"percent": 50, "seconds": 20}]
GATES = {"minRequests": 20, "maxErrorPercent": 5, "maxTtftMs": 200, "maxTtftPercent": 150}
ROUTERS = {name: FrontSeen(f"{name}-router", "u", "h", available=1) for name in (OLD, NEW)}


def counts(requests: int, errors: int = 0, ms: float = 80, streams: int | None = None) -> Counts:
    streams = requests if streams is None else streams
    return Counts(requests, errors, streams, streams * ms / 1000)


FAILED = {
    "nothing yet": (Counts(), Counts(), ""),
    "all is well": (counts(200, 1), counts(900), ""),
    "as many errors as may be": (counts(20, 1), counts(20), ""),
    "an error more": (
        counts(20, 2), counts(20), "2 of 20 requests failed (10.0%), and gates.maxErrorPercent is 5",
    ),
    "the first of all requests fails, which the rest can make good": (counts(1, 1), Counts(), ""),
    "so many fail that the rest can not": (
        counts(2, 2), Counts(), "2 of 2 requests failed (100.0%), and gates.maxErrorPercent is 5",
    ),
    "errors of the current revision": (counts(100), counts(100, 90), ""),
    "slow": (
        counts(20, ms=201), counts(20, ms=190),
        "the first token takes 201ms (mean of 20), and gates.maxTtftMs is 200",
    ),
    "one slow answer among the first": (counts(1, ms=3000), Counts(), ""),
    "one that is too slow for all": (
        counts(1, ms=4001), Counts(), "the first token takes 4001ms (mean of 1), and gates.maxTtftMs is 200",
    ),
    "slower than the current revision": (
        counts(20, ms=121), counts(20, ms=80),
        "the first token takes 121ms against 80ms, and gates.maxTtftPercent is 150",
    ),
    "slower at first": (counts(19, ms=121), counts(20, ms=80), ""),
    "nothing to compare with": (counts(20, ms=121), counts(20, streams=0), ""),
    "no streamed answers": (counts(20, streams=0), counts(20, ms=80), ""),
}  # fmt: skip


@pytest.mark.parametrize(("canary", "current", "said"), FAILED.values(), ids=FAILED.keys())
def test_a_gate_fails_as_soon_as_nothing_can_save_it(canary: Counts, current: Counts, said: str) -> None:
    assert failed_gate(CanaryGates.model_validate(GATES), canary, current) == said


def test_what_several_gateways_saw_is_added_up() -> None:
    seen = [RevisionCounts(revision=NEW, requests=n, errors=1, first_tokens=2, first_token_seconds=0.5) for n in (3, 4)]
    assert total(seen) == Counts(7, 2, 4, 1.0)


def ready(name: str, count: int, **changes: Any) -> RevisionSeen:
    return revision(name, *(pod(name, number) for number in range(count)), **changes)


def canary_spec(*, replicas: int = 1, **changes: Any) -> Any:
    return spec(replicas=replicas, rollout={"canary": {"steps": STEPS, "gates": GATES, **changes}})


def on_trial(*seen: RevisionSeen, replicas: int = 1, now: float = 100, **changes: Any) -> Serving:
    """A service with the old revision serving and the new one as a canary; `canary` is status.canary."""
    canary = changes.pop("canary", None)
    before = desired(replicas, current_revision=OLD, canary=canary)
    base = {"spec": canary_spec(replicas=replicas), "status": before, "gateway": UP, "front": "gateway"}
    return serving(*seen, now=now, **(base | {"routers": ROUTERS} | changes))


def measuring(percent: int, *, since: float = 0, **more: Any) -> dict[str, Any]:
    return {"revision": NEW, "phase": "Measuring", "percent": percent, "step_started_at": timestamp(at(since)), **more}


def shifting(percent: int, *, since: float = 0) -> dict[str, Any]:
    return measuring(percent, since=since) | {"phase": "Shifting"}


def split(decision: Decision) -> dict[str, int]:
    return {share.revision: share.percent for share in decision.status.traffic}


GOOD = {NEW: counts(20), OLD: counts(180)}
TABLE = {
    "it starts beside the others": (
        on_trial(ready(OLD, 4), replicas=4), {OLD: 4, NEW: 1}, {OLD: 100}, "Loading",
    ),
    "and waits until it is ready": (
        on_trial(ready(OLD, 4), revision(NEW, loading()), replicas=4), {OLD: 4, NEW: 1}, {OLD: 100}, "Loading",
    ),
    "and for its router": (
        on_trial(ready(OLD, 1), ready(NEW, 1), routers={OLD: ROUTERS[OLD]}), {OLD: 1, NEW: 1}, {OLD: 100}, "Loading",
    ),
    "then it gets the first share": (
        on_trial(ready(OLD, 1), ready(NEW, 1)), {OLD: 1, NEW: 1}, {OLD: 90, NEW: 10}, "Measuring",
    ),
    "which is held for its time": (
        on_trial(ready(OLD, 1), ready(NEW, 1), canary=measuring(10), now=9, counts=GOOD),
        {OLD: 1, NEW: 1}, {OLD: 90, NEW: 10}, "Measuring",
    ),
    "and for its requests": (
        on_trial(ready(OLD, 1), ready(NEW, 1), canary=measuring(10), counts={NEW: counts(19)}),
        {OLD: 1, NEW: 1}, {OLD: 90, NEW: 10}, "Measuring",
    ),
    "then the next one": (
        on_trial(ready(OLD, 1), ready(NEW, 1), canary=measuring(10), now=11, counts=GOOD),
        {OLD: 1, NEW: 1}, {OLD: 50, NEW: 50}, "Measuring",
    ),
    "for which there must be replicas first": (
        on_trial(ready(OLD, 4), ready(NEW, 1), replicas=4, canary=measuring(10), counts=GOOD),
        {OLD: 4, NEW: 2}, {OLD: 90, NEW: 10}, "Measuring",
    ),
    "after the last one the share follows the ready replicas": (
        on_trial(ready(OLD, 4), ready(NEW, 2), replicas=4, canary=measuring(50), counts=GOOD),
        {OLD: 2, NEW: 3}, {OLD: 50, NEW: 50}, "Shifting",
    ),
    "as they come": (
        on_trial(ready(OLD, 2), ready(NEW, 3), replicas=4, canary=shifting(50)),
        {OLD: 1, NEW: 4}, {OLD: 40, NEW: 60}, "Shifting",
    ),
    "and doesn't fall when one goes": (
        on_trial(ready(OLD, 2), ready(NEW, 2), replicas=4, canary=shifting(60)),
        {OLD: 2, NEW: 3}, {OLD: 40, NEW: 60}, "Shifting",
    ),
    "with the last of them it gets all requests": (
        on_trial(ready(OLD, 1), ready(NEW, 4), replicas=4, canary=shifting(60)),
        {OLD: 1, NEW: 4}, {OLD: 0, NEW: 100}, "Shifting",
    ),
    "a moment before the old ones go": (
        on_trial(ready(OLD, 1), ready(NEW, 4), replicas=4, canary=shifting(100, since=98)),
        {OLD: 1, NEW: 4}, {OLD: 0, NEW: 100}, "Shifting",
    ),
    "and then it is the current one": (
        on_trial(ready(OLD, 1), ready(NEW, 4), replicas=4, canary=shifting(100)), {OLD: 0, NEW: 4}, {NEW: 100}, None,
    ),
    "a gate that fails takes all back": (
        on_trial(ready(OLD, 1), ready(NEW, 1), canary=measuring(10), counts={NEW: counts(9, 2)}),
        {OLD: 1, NEW: 0}, {OLD: 100}, None,
    ),
    "a canary that can't get ready is rolled back as every revision": (
        on_trial(ready(OLD, 1), revision(NEW, loading(restarts=3, last_exit_code=1)), canary=measuring(10)),
        {OLD: 1, NEW: 0}, {OLD: 100}, None,
    ),
    "a canary that was replaced makes room for the next": (
        on_trial(ready(OLD, 1), ready("helpdesk-mid", 1), canary=measuring(50) | {"revision": "helpdesk-mid"}),
        {OLD: 1, "helpdesk-mid": 0, NEW: 1}, {OLD: 100}, "Loading",
    ),
    "a step that was taken out of the spec ends as the one before it": (
        on_trial(ready(OLD, 1), ready(NEW, 1), canary=measuring(30), now=11, counts=GOOD),
        {OLD: 1, NEW: 1}, {OLD: 50, NEW: 50}, "Measuring",
    ),
    "a sleeping service learns nothing": (
        on_trial(revision(OLD, replicas=0), revision(NEW, replicas=0), replicas=0, canary=measuring(10)),
        {OLD: 0, NEW: 0}, {OLD: 90, NEW: 10}, "Measuring",
    ),
    "a first revision has nothing to be compared with": (
        on_trial(update=NEW, status=desired(1)), {NEW: 1}, {NEW: 100}, None,
    ),
    "nor one that comes after a broken one": (
        on_trial(revision(OLD, loading(OLD, restarts=3, last_exit_code=1)), ready(NEW, 1)),
        {OLD: 0, NEW: 1}, {NEW: 100}, None,
    ),
    "nobody counts where gateways can't report": (
        on_trial(ready(OLD, 1), ready(NEW, 1), hears_demand=False), {OLD: 0, NEW: 1}, {}, None,
    ),
    "as long as one router finds all, none starts": (
        on_trial(ready(OLD, 1), shared_router=ROUTERS[OLD]), {OLD: 1, NEW: 0}, {OLD: 100}, "Loading",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("seen", "replicas", "traffic", "phase"), TABLE.values(), ids=TABLE.keys())
def test_each_step_of_a_canary_follows_from_what_is_seen(
    seen: Serving, replicas: dict[str, int], traffic: dict[str, int], phase: str | None
) -> None:
    decision = decide(seen)
    told = decision.status.canary
    assert (dict(decision.plan.replicas), split(decision)) == (replicas, traffic)
    assert (told and told.phase) == phase


def test_it_says_how_far_it_is() -> None:
    seen = on_trial(
        ready(OLD, 1), ready(NEW, 1), canary=measuring(10), counts={NEW: counts(13, ms=84), OLD: counts(99)}
    )
    told = decide(seen).status
    assert (told.phase, told.reason, told.ready) == ("Updating", "Canary", "1/1")
    assert told.message == (
        f"Canary: 10% of requests go to revision {NEW}, 13 of 20 requests seen, error rate 0.0%, "
        "first token 84ms against 80ms."
    )
    shifts = decide(on_trial(ready(OLD, 1), ready(NEW, 1), canary=measuring(50), counts=GOOD)).status
    assert shifts.message == f"Canary: 100% of requests go to revision {NEW}; its gates have held, and it takes over."


def test_it_tells_its_numbers_only_when_it_is_time() -> None:
    seen = on_trial(ready(OLD, 1), ready(NEW, 1), canary=measuring(10, requests=7), counts={NEW: counts(13)})
    told = decide(replace(seen, measure=False)).status.canary
    assert told is not None
    assert told.requests == 7


def test_a_failed_gate_says_its_numbers_and_stays_failed_until_the_canary_is_another() -> None:
    bad = {NEW: counts(9, 2), OLD: counts(80)}
    seen = on_trial(ready(OLD, 1), ready(NEW, 1), canary=measuring(10), counts=bad)
    told = decide(seen).status
    assert (told.phase, told.reason) == ("Degraded", "GateFailed")
    assert told.message == (
        f"Revision {NEW} was rolled back: At 10% of the traffic, 2 of 9 requests failed (22.2%), and "
        f"gates.maxErrorPercent is 5. Revision {OLD} keeps serving."
    )
    later = replace(seen, status=told, revisions={OLD: ready(OLD, 1)}, counts={}, now=at(900))
    assert decide(later).status.failed_revision == told.failed_revision
    softer = replace(later, spec=canary_spec(gates=GATES | {"maxErrorPercent": 50}))
    assert decide(softer).plan.replicas == {OLD: 1, NEW: 1}


def test_what_happens_to_a_canary_is_told_once() -> None:
    start = on_trial(ready(OLD, 1), ready(NEW, 1))
    first = decide(start).status
    assert [event.reason for event in between(start.status.wire(), first)] == ["RevisionStarted", "CanaryStep"]
    again = decide(replace(start, status=first, now=at(110))).status
    assert not list(between(first.wire(), again))
    last = on_trial(ready(OLD, 1), ready(NEW, 1), canary=measuring(50), counts=GOOD)
    passed = decide(last).status
    assert "CanaryPassed" in [event.reason for event in between(last.status.wire(), passed)]


class Life:
    """A service over time: replicas get ready or not, requests come or not, and a look every two seconds."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.ready = {OLD: wanted, NEW: 0}
        self.replicas = {OLD: wanted}
        self.status = desired(wanted, current_revision=OLD)
        self.seconds = 0.0
        self.counts = {NEW: Counts(), OLD: Counts()}
        self.shares = [0]

    def look(self) -> Decision:
        self.seconds += 2
        seen = [self._seen(name, replicas) for name, replicas in self.replicas.items()]
        now = on_trial(*seen, replicas=self.wanted, status=self.status, counts=self.counts, now=self.seconds)
        decision = decide(now)
        if split(decision) != self._split():
            self.counts = {NEW: Counts(), OLD: Counts()}
        self.replicas = {name: n for name, n in decision.plan.replicas.items() if name not in decision.plan.retire}
        self.ready = {name: min(ready, self.replicas.get(name, 0)) for name, ready in self.ready.items()}
        self.status = InferenceServiceStatus.model_validate(decision.status.wire())  # as it comes back from the server
        self.shares.append(self._split().get(NEW, 0))
        return decision

    def happens(self, *, comes: bool, requests: int, errors: int) -> None:
        if comes and self.ready[NEW] < self.replicas.get(NEW, 0):
            self.ready[NEW] += 1
        if self._split().get(NEW):
            before = self.counts[NEW]
            self.counts[NEW] = replace(
                before, requests=before.requests + requests, errors=before.errors + min(errors, requests)
            )

    def _seen(self, name: str, replicas: int) -> RevisionSeen:
        pods = [pod(name, n, now=self.seconds) for n in range(self.ready[name])]
        more = [loading(name, n, now=self.seconds) for n in range(self.ready[name], replicas)]
        return revision(name, *pods, *more, replicas=replicas)

    def _split(self) -> dict[str, int]:
        return {share.revision: share.percent for share in self.status.traffic}


happening = st.fixed_dictionaries(
    {"comes": st.booleans(), "requests": st.integers(0, 30), "errors": st.sampled_from((0, 0, 0, 1, 30))}
)


@given(wanted=st.integers(1, 4), events=st.lists(happening, min_size=20, max_size=80))
def test_a_share_never_falls_except_to_nothing_on_a_roll_back_and_enough_replicas_stay(
    wanted: int, events: list[dict[str, Any]]
) -> None:
    life = Life(wanted)
    for event in events:
        before = sum(life.ready.values())
        decision = life.look()
        failed = decision.status.failed_revision is not None
        assert life.shares[-1] >= life.shares[-2] or (failed and life.shares[-1] == 0)
        assert not failed or decision.plan.current == OLD
        assert sum(life.ready.values()) >= min(before, wanted)
        assert sum(decision.plan.replicas.values()) <= 2 * wanted + 1
        life.happens(**event)


@given(wanted=st.integers(1, 4), events=st.lists(happening, min_size=20, max_size=60), percent=st.integers(6, 100))
def test_a_failed_gate_never_shifts(wanted: int, events: list[dict[str, Any]], percent: int) -> None:
    """However it comes and goes: a revision that errs too often never gets past the step at which it does."""
    life = Life(wanted)
    for event in events:
        life.look()
        requests = event["requests"]
        life.happens(comes=event["comes"], requests=requests, errors=-(-requests * percent // 100))
    assert max(life.shares) <= STEPS[0]["percent"]
    assert life.status.current_revision == OLD


@given(wanted=st.integers(1, 4), events=st.lists(happening, max_size=60))
def test_a_good_revision_ends_with_all_requests_and_the_old_one_gone(wanted: int, events: list[dict[str, Any]]) -> None:
    life = Life(wanted)
    for event in [*events, *([{"comes": True, "requests": 10}] * 40)]:
        life.look()
        life.happens(comes=event["comes"], requests=event["requests"], errors=0)
    assert life.status.current_revision == NEW
    assert life.shares[-1] == 100
    assert life.replicas == {NEW: wanted}
    assert {10, 50, 100} <= set(life.shares)


@given(wanted=st.integers(1, 3), forgets=st.sets(st.integers(0, 30)))
def test_an_operator_that_forgets_what_was_counted_loses_time_and_nothing_else(wanted: int, forgets: set[int]) -> None:
    life = Life(wanted)
    for number in range(70):
        life.look()
        life.happens(comes=True, requests=10, errors=0)
        if number in forgets:
            life.counts = {NEW: Counts(), OLD: Counts()}
    assert life.shares == sorted(life.shares)
    assert life.status.current_revision == NEW
