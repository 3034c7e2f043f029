"""How a revision takes over from another, in tables and against a simulated cluster that does what it likes."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_builders import NEW, OLD, loading, pod, revision, revisions

from lmforge_operator.serving.observed import ReplicaSeen, RevisionSeen
from lmforge_operator.serving.rollout import Plan, plan


def ready(name: str, count: int) -> RevisionSeen:
    return revision(name, *(pod(name, number) for number in range(count)))


def starting(name: str, count: int, *, of: int | None = None) -> RevisionSeen:
    return revision(name, *(loading(name, number) for number in range(count)), replicas=of)


def step(
    *seen: RevisionSeen, wanted: int, current: str = OLD, update: str = NEW, surge: int = 1, failed: bool = False
) -> Plan:
    return plan(revisions(*seen), update=update, current=current, wanted=wanted, surge=surge, failed=failed)


TABLE = {
    "the first revision gets all": ((), {"wanted": 2, "current": ""}, {NEW: 2}, NEW),
    "nothing to do": ((ready(NEW, 2),), {"wanted": 2, "current": NEW}, {NEW: 2}, NEW),
    "an update starts beside the old one": ((ready(OLD, 3),), {"wanted": 3}, {OLD: 3, NEW: 1}, OLD),
    "and waits for its first replica": ((ready(OLD, 3), starting(NEW, 1)), {"wanted": 3}, {OLD: 3, NEW: 1}, OLD),
    "which lets an old one go": ((ready(OLD, 3), ready(NEW, 1)), {"wanted": 3}, {OLD: 2, NEW: 2}, OLD),
    "until all are new": ((ready(OLD, 1), ready(NEW, 3)), {"wanted": 3}, {OLD: 0, NEW: 3}, NEW),
    "a larger surge is quicker": ((ready(OLD, 3), ready(NEW, 1)), {"wanted": 3, "surge": 3}, {OLD: 2, NEW: 3}, OLD),
    "more load during an update goes to the old one until the new one has proved itself": (
        (ready(OLD, 1), starting(NEW, 1)), {"wanted": 4}, {OLD: 4, NEW: 1}, OLD,
    ),
    "and then to the new one": ((ready(OLD, 1), ready(NEW, 1)), {"wanted": 4}, {OLD: 1, NEW: 4}, OLD),
    "a failed update gives all back": (
        (ready(OLD, 2), starting(NEW, 1)), {"wanted": 3, "failed": True}, {OLD: 3, NEW: 0}, OLD,
    ),
    "a failed update of nothing is tried on": (
        (starting(NEW, 1),), {"wanted": 1, "current": "", "failed": True}, {NEW: 1}, NEW,
    ),
    "an update that was replaced before it was ready goes at once": (
        (ready(OLD, 1), starting("helpdesk-mid", 1), starting(NEW, 0)), {"wanted": 1},
        {OLD: 1, "helpdesk-mid": 0, NEW: 1}, OLD,
    ),
    "a sleeping service is woken as the new revision": (
        (starting(OLD, 0), starting(NEW, 0)), {"wanted": 2}, {OLD: 0, NEW: 2}, OLD,
    ),
    "a sleeping service sleeps on": ((starting(OLD, 0),), {"wanted": 0}, {OLD: 0, NEW: 0}, OLD),
    "a first revision that never got ready gives way to its correction": (
        (starting(OLD, 1),), {"wanted": 1, "current": ""}, {OLD: 0, NEW: 1}, NEW,
    ),
    "without a status the revision with ready replicas is taken for the current one": (
        (ready(OLD, 2),), {"wanted": 2, "current": ""}, {OLD: 2, NEW: 1}, OLD,
    ),
    "while the model is not known nothing changes": ((ready(OLD, 2),), {"wanted": 2, "update": ""}, {OLD: 2}, OLD),
    "back to the revision that serves": (
        (ready(OLD, 2), starting(NEW, 1)), {"wanted": 2, "update": OLD}, {OLD: 2, NEW: 0}, OLD,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("seen", "asked", "replicas", "current"), TABLE.values(), ids=TABLE.keys())
def test_each_step_follows_from_what_is_seen(seen: Any, asked: Any, replicas: dict[str, int], current: str) -> None:
    chosen = step(*seen, **asked)
    assert (dict(chosen.replicas), chosen.current) == (replicas, current)


def test_an_old_revision_is_deleted_only_when_its_last_pod_has_drained() -> None:
    drains = revision(OLD, pod(OLD, deleting=True), replicas=0)
    assert step(ready(NEW, 1), drains, wanted=1, current=NEW).retire == ()
    assert step(ready(NEW, 1), revision(OLD, replicas=0), wanted=1, current=NEW).retire == (OLD,)


class Cluster:
    """Deployments that bring their pods there in their own time."""

    def __init__(self, old: int) -> None:
        self.seen = revisions(ready(OLD, old))
        self.current = OLD

    def obey(self, chosen: Plan) -> None:
        for name in chosen.retire:
            del self.seen[name]
        for name, replicas in chosen.replicas.items():
            if name in chosen.retire:
                continue
            before = self.seen.get(name, revision(name, replicas=0))
            alive = sorted(before.pods, key=lambda each: not each.ready)[:replicas]
            names = {each.name for each in alive}
            fresh = [n for n in range(20) if f"{name}-{n}" not in names][: replicas - len(alive)]
            self.seen[name] = revision(name, *alive, *(loading(name, n) for n in fresh), replicas=replicas)
        self.current = chosen.current

    def happens(self, name: str, change: str) -> None:
        found = self.seen.get(name)
        if found is None or not found.pods:
            return
        pods: list[ReplicaSeen] = list(found.pods)
        if change == "ready":
            index = next((i for i, each in enumerate(pods) if not each.ready), 0)
            pods[index] = replace(pods[index], ready=True)
        else:
            pods[0] = replace(pods[0], ready=False)
        self.seen[name] = replace(found, pods=tuple(pods))

    def serves(self) -> int:
        return sum(each.ready for each in self.seen.values())


@given(
    old=st.integers(1, 5), wanted=st.integers(1, 5), surge=st.integers(1, 3), luck=st.lists(st.booleans(), max_size=60)
)
def test_a_rollout_never_takes_a_ready_replica_that_is_needed_and_ends_with_the_new_revision_alone(
    old: int, wanted: int, surge: int, luck: list[bool]
) -> None:
    cluster = Cluster(old)
    for lucky in [*luck, *([True] * 40)]:
        before = cluster.serves()
        chosen = step(*cluster.seen.values(), wanted=wanted, current=cluster.current, surge=surge)
        assert sum(chosen.replicas.values()) <= max(wanted + surge, old + surge)
        cluster.obey(chosen)
        assert cluster.serves() >= min(before, wanted)
        if lucky:
            cluster.happens(NEW, "ready")
    chosen = step(*cluster.seen.values(), wanted=wanted, current=cluster.current, surge=surge)
    assert cluster.current == NEW
    assert dict(chosen.replicas) == {NEW: wanted}


@given(
    wanted=st.integers(0, 4),
    surge=st.integers(1, 3),
    failed=st.booleans(),
    events=st.lists(st.tuples(st.sampled_from((OLD, NEW)), st.sampled_from(("ready", "lost"))), max_size=30),
)
def test_asking_again_after_obeying_changes_nothing_until_something_happens(
    wanted: int, surge: int, failed: bool, events: list[tuple[str, str]]
) -> None:
    cluster = Cluster(2)
    for name, change in events:
        cluster.happens(name, change)
        for _ in range(4):
            chosen = step(*cluster.seen.values(), wanted=wanted, current=cluster.current, surge=surge, failed=failed)
            cluster.obey(chosen)
        again = step(*cluster.seen.values(), wanted=wanted, current=cluster.current, surge=surge, failed=failed)
        assert again == replace(chosen, retire=again.retire)
