"""What is asked of a replica for its adapters: for any state the right calls, and after them nothing more."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_builders import START

from lmforge_operator.serving.adapters.replica import (
    LONGEST_PAUSE,
    Load,
    ReplicaAdapters,
    Unload,
    Version,
    next_calls,
    version_of,
)
from lmforge_operator.serving.adapters.wanted import Adapter

LEGAL = Adapter("legal", "pvc://models/legal", "pvc://models/legal")
TONE = Adapter("tone", "finetune/tone", "pvc://store/tone", "sha256:1")
NEWER = Adapter("tone", "finetune/tone", "pvc://store/tone-2", "sha256:2")
AGAIN = Adapter("tone", "finetune/tone", "pvc://store/tone", "sha256:2")
WAITS = Adapter("tone", "finetune/tone", waiting_for="waits for FineTune tone: it is Running")
STANDS_IN = replace(TONE, waiting_for="waits for FineTune newer: it is Running")

HAS_LEGAL = ReplicaAdapters().took(LEGAL)
HAS_BOTH = HAS_LEGAL.took(TONE)

CALLS: dict[str, tuple[tuple[Adapter, ...], ReplicaAdapters, list[Load | Unload]]] = {
    "nothing wanted, nothing there": ((), ReplicaAdapters(), []),
    "a new replica": ((LEGAL, TONE), ReplicaAdapters(), [Load(LEGAL), Load(TONE)]),
    "one more": ((LEGAL, TONE), HAS_LEGAL, [Load(TONE)]),
    "all there": ((LEGAL, TONE), HAS_BOTH, []),
    "one less": ((LEGAL,), HAS_BOTH, [Unload("tone")]),
    "another path": ((NEWER,), ReplicaAdapters().took(TONE), [Load(NEWER, replaces=True)]),
    "other weights at the same path": ((AGAIN,), ReplicaAdapters().took(TONE), [Load(AGAIN, replaces=True)]),
    "waited for, and not there": ((WAITS,), ReplicaAdapters(), []),
    "waited for, while the former one serves": ((WAITS,), ReplicaAdapters().took(TONE), []),
    "waited for, while a new replica is given the former one": (
        (STANDS_IN,), ReplicaAdapters(), [Load(STANDS_IN)],
    ),
    "just refused": ((LEGAL, TONE), ReplicaAdapters().refused(LEGAL, "broken", now=START), [Load(TONE)]),
    "another version was refused": ((NEWER,), ReplicaAdapters().refused(TONE, "broken", now=START), [Load(NEWER)]),
    "left by a replacement that was broken off": (
        (LEGAL,), HAS_LEGAL.seen({"legal": LEGAL.path, "legal@new": "/x"}, [LEGAL]), [Unload("legal@new")],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("wanted", "replica", "expected"), CALLS.values(), ids=CALLS.keys())
def test_a_replica_is_asked_for_what_it_lacks(
    wanted: tuple[Adapter, ...], replica: ReplicaAdapters, expected: list[Load | Unload]
) -> None:
    assert list(next_calls(wanted, replica, now=START)) == expected


def test_a_refused_adapter_is_tried_again_after_pauses_that_double_up_to_a_minute() -> None:
    replica, now, pauses = ReplicaAdapters(), START, []
    for _ in range(8):
        replica = replica.refused(LEGAL, "broken", now=now)
        again = replica.failures["legal"].again
        assert not list(next_calls([LEGAL], replica, now=again - timedelta(seconds=0.1)))
        assert list(next_calls([LEGAL], replica, now=again)) == [Load(LEGAL)]
        pauses.append((again - now).total_seconds())
        now = again
    assert pauses == [2, 4, 8, 16, 32, 60, 60, LONGEST_PAUSE.total_seconds()]


def test_what_was_loaded_unseen_counts_as_what_is_wanted_at_that_path() -> None:
    paths = {"legal": LEGAL.path, "tone": "/mnt/pvc/store/old", "gone": "/mnt/pvc/store/gone"}
    seen = ReplicaAdapters().seen(paths, [LEGAL, TONE])
    assert seen.loaded == {
        "legal": version_of(LEGAL),
        "tone": Version("/mnt/pvc/store/old"),
        "gone": Version("/mnt/pvc/store/gone"),
    }
    assert list(next_calls([LEGAL, TONE], seen, now=START)) == [Unload("gone"), Load(TONE, replaces=True)]


def test_a_replica_that_started_again_is_believed_when_it_has_nothing() -> None:
    assert list(next_calls([LEGAL, TONE], HAS_BOTH.seen({}, [LEGAL, TONE]), now=START)) == [Load(LEGAL), Load(TONE)]


def test_a_failure_is_forgotten_with_its_adapter_or_when_the_adapter_is_there() -> None:
    failed = ReplicaAdapters().refused(LEGAL, "broken", now=START)
    assert failed.seen({}, [LEGAL]).failures.keys() == {"legal"}
    assert not failed.seen({}, []).failures
    assert not failed.seen({"legal": LEGAL.path}, [LEGAL]).failures
    assert not failed.took(LEGAL).failures


names = st.sampled_from("abcd")
digests = st.sampled_from(["", "sha256:1", "sha256:2"])
adapters = st.builds(
    lambda name, place, digest, waits: (
        Adapter(name, "x", waiting_for="waits") if waits else Adapter(name, "x", f"pvc://c/{place}", digest)
    ),
    names, st.sampled_from("xyz"), digests, st.booleans(),
)  # fmt: skip
wishes = st.lists(adapters, unique_by=lambda each: each.name)


@given(first=wishes, second=wishes, told=st.dictionaries(names, st.sampled_from(["/mnt/pvc/c/x", "/elsewhere"])))
def test_whatever_a_replica_had_the_calls_bring_it_there_and_then_there_are_none(
    first: list[Adapter], second: list[Adapter], told: dict[str, str]
) -> None:
    replica = ReplicaAdapters().seen(told, first)
    for wanted in (first, second):
        for call in list(next_calls(wanted, replica, now=START)):
            replica = replica.dropped(call.name) if isinstance(call, Unload) else replica.took(call.adapter)
        assert not list(next_calls(wanted, replica, now=START))
        assert replica.loaded.keys() <= {each.name for each in wanted}
        assert all(replica.has(each) for each in wanted if not each.waiting_for)
