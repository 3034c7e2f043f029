"""How many replicas: what each measure asks for, what holds, and laws for any load."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_builders import at

from lmforge_api.inferenceservice_parts import Autoscaling
from lmforge_operator.serving.autoscaler import Fleet, Held, History, Verdict, decide, wish
from lmforge_operator.serving.load import Load


def scaling(least: int = 1, most: int = 10, *, delay: int = 60, **targets: object) -> Autoscaling:
    return Autoscaling.model_validate(
        {"minReplicas": least, "maxReplicas": most, "scaleDownDelaySeconds": delay, "targets": targets}
    )


def busy(measured: int = 1, **load: object) -> Load:
    return Load(measured=measured, active=True, **load)  # type: ignore[arg-type]


WISHES = {
    "an idle service": (Load(measured=1), Held(), Fleet(1, 1), {}, 1),
    "an idle service that may sleep": (Load(measured=1), Held(), Fleet(1, 1), {"least": 0}, 0),
    "one request keeps it awake": (busy(running=1), Held(), Fleet(1, 1), {"least": 0}, 1),
    "a request that was answered between two looks": (busy(), Held(), Fleet(1, 1), {"least": 0}, 1),
    "a request that a gateway passes on": (Load(measured=1), Held(running=1), Fleet(1, 1), {"least": 0}, 1),
    "a queue": (busy(3, waiting=8), Held(), Fleet(3, 3), {"waitingRequests": 2}, 4),
    "a queue that a tenth too much makes no difference to": (
        busy(2, running=33), Held(), Fleet(2, 2), {"runningRequests": 16}, 2,
    ),
    "running requests": (busy(2, running=40), Held(), Fleet(2, 2), {"runningRequests": 10}, 4),
    "full caches": (busy(2, running=1, kv_cache_use=1.9), Held(), Fleet(2, 2), {"kvCacheUse": 50}, 4),
    "slow first tokens": (busy(2, running=1, first_token_seconds=0.9), Held(), Fleet(2, 2), {"ttftMs": 500}, 3),
    "first tokens in time": (busy(2, running=1, first_token_seconds=0.3), Held(), Fleet(2, 2), {"ttftMs": 500}, 2),
    "quick first tokens": (busy(2, running=1, first_token_seconds=0.1), Held(), Fleet(2, 2), {"ttftMs": 500}, 1),
    "requests held at zero": (Load(), Held(waiting=1), Fleet(0), {"least": 0}, 1),
    "many requests held at zero": (Load(), Held(waiting=500), Fleet(0), {"least": 0}, 2),
    "a long queue while replicas load": (busy(1, waiting=500), Held(), Fleet(2, 1), {}, 2),
    "no more than the maximum": (busy(8, waiting=500), Held(), Fleet(8, 8), {"most": 9}, 9),
    "a replica that can not be measured": (busy(1, running=1), Held(), Fleet(3, 2), {}, 3),
    "a gateway that says nothing": (Load(measured=1), None, Fleet(1, 1), {"least": 0}, 1),
}  # fmt: skip


@pytest.mark.parametrize(("load", "held", "fleet", "asked", "expected"), WISHES.values(), ids=WISHES.keys())
def test_a_load_asks_for_as_many_replicas_as_bear_it(
    load: Load, held: Held | None, fleet: Fleet, asked: dict[str, int], expected: int
) -> None:
    assert wish(load, held, fleet, scaling(**asked))[0] == expected


class Life:
    """The autoscaler over time: every two seconds a look, replicas are ready after some looks."""

    def __init__(self, autoscaling: Autoscaling, *, replicas: int = 1, load_looks: int = 0) -> None:
        self.autoscaling = autoscaling
        self.replicas = self.ready = replicas
        self.load_looks = load_looks
        self.history: History | None = None
        self.seconds = 0.0
        self.pending: list[int] = []
        self.seen: list[int] = []

    def look(self, load: Load, *, held: Held | None = None, stuck: str = "") -> Verdict:
        self.seconds += 2
        self.pending = [left - 1 for left in self.pending if left > 1]
        self.ready = self.replicas - len(self.pending)
        measured = Load(**{**vars(load), "measured": self.ready})
        fleet = Fleet(self.replicas, self.ready, stuck)
        verdict = decide(measured, held or Held(), fleet, self.autoscaling, history=self.history, now=at(self.seconds))
        self.history = verdict.history
        self.pending = (self.pending + [self.load_looks] * max(0, verdict.replicas - self.replicas))[: verdict.replicas]
        self.replicas = verdict.replicas
        self.ready = min(self.ready, self.replicas)
        self.seen.append(self.replicas)
        return verdict

    def look_for(self, seconds: float, load: Load) -> None:
        for _ in range(int(seconds / 2)):
            self.look(load)


def test_a_queue_is_answered_within_five_seconds() -> None:
    life = Life(scaling())
    life.look_for(20, busy(running=1))
    life.look_for(4, busy(waiting=10, running=16))
    assert life.replicas == 2  # twice as many as are ready; the next step follows once these are


def test_a_single_look_at_a_queue_is_not_believed() -> None:
    life = Life(scaling())
    life.look_for(20, busy(running=1))
    life.look(busy(waiting=10))
    life.look_for(20, busy(running=1))
    assert set(life.seen) == {1}


def test_replicas_go_only_when_they_were_not_needed_for_the_whole_delay() -> None:
    life = Life(scaling(delay=60), replicas=4)
    life.look_for(40, busy(running=60))
    life.look_for(58, busy(running=1))
    assert life.replicas == 4
    verdict = [life.look(busy(running=1)) for _ in range(4)]
    assert life.replicas == 1
    assert "not needed for 60 s" in [each.why for each in verdict]


def test_an_operator_that_has_just_started_takes_nothing_away_before_the_delay_is_over() -> None:
    life = Life(scaling(delay=60), replicas=4)
    life.look_for(58, busy(running=1))
    assert life.replicas == 4


def test_an_idle_service_goes_to_zero_and_a_held_request_brings_it_back_at_once() -> None:
    life = Life(scaling(0, delay=30))
    life.look_for(40, Load())
    assert life.replicas == 0
    verdict = life.look(Load(), held=Held(waiting=1))
    assert (verdict.replicas, verdict.why) == (1, "1 requests wait, target 2")


def test_where_no_pod_can_be_placed_it_stays_and_says_what_it_would_have() -> None:
    life = Life(scaling(), replicas=3)
    life.look_for(10, busy(waiting=20, running=48))
    life.replicas = life.ready = 3
    verdict = life.look(busy(waiting=20, running=48), stuck="1 of 3 pods can't be scheduled")
    assert verdict.replicas == 3
    assert verdict.held_back.startswith("Would have 6 replicas (20 requests wait, target 2), but 1 of 3 pods can't")


def test_a_smaller_maximum_is_obeyed_at_once_and_said() -> None:
    verdict = Life(scaling(most=2), replicas=5).look(busy(running=80))
    assert (verdict.replicas, verdict.why) == (2, "maxReplicas is 2")


loads = st.builds(
    busy,
    waiting=st.integers(0, 2000),
    running=st.integers(0, 2000),
    kv_cache_use=st.floats(0, 50),
    first_token_seconds=st.none() | st.floats(0, 100),
) | st.just(Load())
fleets = st.builds(Fleet, wanted=st.integers(0, 30), ready=st.integers(0, 30), stuck=st.sampled_from(("", "no room")))
bounds = st.tuples(st.integers(0, 8), st.integers(1, 20)).map(sorted).filter(lambda each: each[1] >= 1)


@given(st.lists(st.tuples(loads, fleets), min_size=1, max_size=12), bounds, st.integers(0, 30))
def test_it_never_leaves_its_bounds_whatever_happens(
    life: list[tuple[Load, Fleet]], limits: list[int], delay: int
) -> None:
    history = None
    autoscaling = scaling(*limits, delay=delay, ttftMs=200)
    for number, (load, fleet) in enumerate(life):
        verdict = decide(load, Held(), fleet, autoscaling, history=history, now=at(2 * number))
        history = verdict.history
        assert limits[0] <= verdict.replicas <= max(limits[1], 0)
        assert bool(verdict.why) == (verdict.replicas != fleet.wanted)


@given(loads, st.integers(0, 100), st.integers(0, 100), st.floats(0, 5), fleets)
def test_more_load_never_asks_for_fewer(load: Load, waiting: int, running: int, cache: float, fleet: Fleet) -> None:
    more = Load(
        **{
            **vars(load),
            "waiting": load.waiting + waiting,
            "running": load.running + running,
            "kv_cache_use": load.kv_cache_use + cache,
            "first_token_seconds": (load.first_token_seconds or 0.0) + cache,
        }
    )
    asked = scaling(0, 50, ttftMs=300)
    assert wish(more, Held(), fleet, asked)[0] >= wish(load, Held(), fleet, asked)[0]


@given(st.integers(0, 300), st.integers(1, 10), st.integers(0, 6))
def test_a_constant_load_settles_and_stays(running: int, start: int, load_looks: int) -> None:
    life = Life(scaling(delay=20), replicas=start, load_looks=load_looks)
    for _ in range(80):
        life.look(busy(running=running))
    assert len(set(life.seen[-20:])) == 1


@given(st.integers(0, 300), st.integers(0, 15), st.integers(1, 10))
def test_a_load_that_trembles_less_than_the_delay_is_long_does_not_make_it_flap(
    running: int, tremor: int, start: int
) -> None:
    life = Life(scaling(delay=20), replicas=start)
    for number in range(80):
        life.look(busy(running=running + tremor * (number % 4)))
    settled = life.seen[-20:]
    assert settled == [settled[0]] * 20


def test_wishes_that_are_older_than_both_windows_are_forgotten() -> None:
    life = Life(scaling(delay=10))
    life.look_for(600, busy(running=1))
    assert life.history is not None
    assert len(life.history.wishes) <= 6
    assert at(600) - life.history.wishes[0].time <= timedelta(seconds=10)
