"""From many replicas' loads over time to one; and what gateways say."""

import pytest
from serving_builders import at

from lmforge_api.gateway_run import DemandReport
from lmforge_operator.serving.autoscaler import Held
from lmforge_operator.serving.demand import DemandBook
from lmforge_operator.serving.load import EngineLoad, Load, LoadBook


def book(*samples: tuple[float, str, EngineLoad]) -> LoadBook:
    made = LoadBook()
    for seconds, replica, load in samples:
        made.record("u", replica, load, now=at(seconds))
    return made


def test_replicas_are_added_up_and_rates_are_over_the_window() -> None:
    loads = book(
        (0, "a", EngineLoad(tokens=0, first_tokens=0)),
        (0, "b", EngineLoad(tokens=500)),
        (
            10,
            "a",
            EngineLoad(waiting=1, running=2, kv_cache_use=0.5, tokens=100, first_tokens=4, first_token_seconds=2),
        ),
        (10, "b", EngineLoad(running=1, kv_cache_use=0.25, tokens=800)),
    )
    assert loads.total("u", {"a", "b"}, now=at(11)) == Load(
        measured=2,
        waiting=1,
        running=3,
        kv_cache_use=0.75,
        active=True,
        tokens_per_second=40.0,
        first_token_seconds=0.5,
    )


def test_what_is_older_than_the_window_does_not_count() -> None:
    loads = book(*((2.0 * n, "a", EngineLoad(tokens=1000.0 if n else 0.0)) for n in range(40)))
    assert loads.total("u", {"a"}, now=at(80)).tokens_per_second == 0.0


def test_a_replica_that_has_gone_silent_is_not_measured() -> None:
    loads = book((0, "a", EngineLoad(running=9)), (20, "b", EngineLoad(running=1)))
    seen = loads.total("u", {"a", "b"}, now=at(21))
    assert (seen.measured, seen.running) == (1, 1)


def test_a_replica_that_serves_no_more_is_forgotten_and_a_restarted_one_begins_anew() -> None:
    loads = book((0, "a", EngineLoad(tokens=900)), (2, "a", EngineLoad(tokens=10)), (4, "a", EngineLoad(tokens=30)))
    assert loads.total("u", {"a"}, now=at(4)).tokens_per_second == 10.0
    assert loads.total("u", set(), now=at(4)) == Load()
    assert loads.total("u", {"a"}, now=at(4)).measured == 0


@pytest.mark.parametrize(
    ("before", "after", "active"),
    [
        (EngineLoad(), EngineLoad(), False),
        (EngineLoad(), EngineLoad(running=1), True),
        (EngineLoad(answered=1), EngineLoad(answered=1), False),
        (EngineLoad(answered=1), EngineLoad(answered=2), True),
    ],
)
def test_a_request_that_came_and_went_between_two_looks_is_activity(
    before: EngineLoad, after: EngineLoad, active: bool
) -> None:
    assert book((0, "a", before), (2, "a", after)).total("u", {"a"}, now=at(2)).active == active


def test_gateways_are_added_up_while_they_are_heard() -> None:
    demand = DemandBook()
    assert demand.held("u", now=at(0)) is None
    assert demand.record("u", DemandReport(pod="a", waiting=2, running=1), received=at(0))
    assert not demand.record("u", DemandReport(pod="a", waiting=3), received=at(5))
    demand.record("u", DemandReport(pod="b", running=4), received=at(20))
    assert demand.held("u", now=at(21)) == Held(waiting=3, running=4)
    assert demand.held("u", now=at(45)) == Held(running=4)
    assert demand.held("u", now=at(60)) is None
    demand.forget("u")
    assert demand.held("u", now=at(21)) is None


def test_a_request_that_ended_just_now_counts_and_a_gateway_that_never_had_one_does_not() -> None:
    demand = DemandBook()
    demand.record("u", DemandReport(pod="a", total=0, idle_seconds=1), received=at(0))
    assert demand.held("u", now=at(0)) == Held()
    demand.record("u", DemandReport(pod="a", total=1, idle_seconds=1), received=at(0))
    assert demand.held("u", now=at(0)) == Held(recent=True)
