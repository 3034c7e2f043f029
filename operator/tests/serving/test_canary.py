"""How a canary gets its share: each step in a table, and what is told of it."""

from dataclasses import replace

import pytest
from canary_builders import GATES, GOOD, ROUTERS, canary_spec, counts, measuring, on_trial, ready, shifting, split
from serving_builders import NEW, OLD, at, desired, loading, revision

from lmforge_operator.serving.decide import decide
from lmforge_operator.serving.events import between
from lmforge_operator.serving.gates import Counts
from lmforge_operator.serving.service import Serving

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
        f"Canary: 10% of requests go to revision {NEW}, 13 of 20 requests seen "
        "(it goes on at gates.minRequests: lower that where few come), error rate 0.0%, "
        "first token 84ms against 80ms."
    )
    shifts = decide(on_trial(ready(OLD, 1), ready(NEW, 1), canary=measuring(50), counts=GOOD)).status
    assert shifts.message == f"Canary: 100% of requests go to revision {NEW}; its gates have held, and it takes over."


STREAMS = {
    "too few streamed answers": (
        counts(50, streams=3), counts(99),
        " The step lasts until 20 answers were streamed, 3 were: others have no first token, which a gate is on. "
        "Stream some requests, lower gates.minRequests, or leave that gate out.",
    ),
    "nothing to compare with": (
        counts(50), counts(99, streams=0),
        " The step lasts until the current revision has streamed an answer, for gates.maxTtftPercent to compare with. "
        "Stream some requests, lower gates.minRequests, or leave that gate out.",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("canary", "current", "said"), STREAMS.values(), ids=STREAMS)
def test_a_gate_on_the_first_token_waits_for_streamed_answers_and_says_so(
    canary: Counts, current: Counts, said: str
) -> None:
    long_ago = measuring(10)
    seen = on_trial(ready(OLD, 1), ready(NEW, 1), canary=long_ago, counts={NEW: canary, OLD: current}, now=10_000)
    told = decide(seen).status
    assert told.canary is not None
    assert told.canary.percent == 10
    assert told.message.endswith(said)


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
