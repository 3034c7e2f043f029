"""A canary over time: laws for any life of a service."""

from typing import Any

from canary_builders import STEPS, on_trial, split
from hypothesis import given
from hypothesis import strategies as st
from serving_builders import NEW, OLD, desired, loading, pod, revision

from lmforge_api.inferenceservice import InferenceServiceStatus
from lmforge_operator.serving.decide import decide
from lmforge_operator.serving.gates import Counts
from lmforge_operator.serving.observed import RevisionSeen
from lmforge_operator.serving.service import Decision


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
            for name, failed in ((NEW, min(errors, requests)), (OLD, 0)):
                before = self.counts[name]
                now = Counts(before.requests + requests, before.errors + failed, before.first_tokens + requests)
                self.counts[name] = now

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
