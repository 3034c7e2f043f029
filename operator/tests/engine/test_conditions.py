"""Conditions keep the time of their last transition."""

from datetime import UTC, datetime, timedelta

from lmforge_api.common import Condition
from lmforge_operator.engine.conditions import find, set_condition

THEN = datetime(2026, 1, 1, tzinfo=UTC)
NOW = THEN + timedelta(hours=1)


def ready(status: str, reason: str = "") -> Condition:
    return Condition.model_validate({"type": "Ready", "status": status, "reason": reason})


def test_a_new_condition_is_dated() -> None:
    [condition] = set_condition([], ready("True"), NOW)
    assert condition.last_transition_time == "2026-01-01T01:00:00Z"


def test_another_reason_is_no_transition() -> None:
    before = set_condition([], ready("False", "Waits"), THEN)
    [condition] = set_condition(before, ready("False", "StillWaits"), NOW)
    assert condition.reason == "StillWaits"
    assert condition.last_transition_time == "2026-01-01T00:00:00Z"


def test_another_status_is_one() -> None:
    before = set_condition([], ready("False"), THEN)
    [condition] = set_condition(before, ready("True"), NOW)
    assert condition.last_transition_time == "2026-01-01T01:00:00Z"


def test_others_stay_where_they_are() -> None:
    other = Condition(type="Other", status="True")
    after = set_condition([ready("False"), other], ready("True"), NOW)
    assert [condition.type for condition in after] == ["Ready", "Other"]
    assert find(after, "Other") == other
    assert find(after, "None") is None
