"""Conditions in the way of the Kubernetes API conventions: the transition time moves only when the status does."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from lmforge_api.common import Condition


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC and whole seconds, as Kubernetes writes `metav1.Time`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def find(conditions: Iterable[Condition], type_: str) -> Condition | None:
    """The condition of that type."""
    return next((condition for condition in conditions if condition.type == type_), None)


def set_condition(conditions: Sequence[Condition], new: Condition, now: datetime) -> list[Condition]:
    """`conditions` with `new` in the place of the one of its type (or at the end)."""
    former = find(conditions, new.type)
    unchanged = former is not None and former.status == new.status and former.last_transition_time
    since = former.last_transition_time if former and unchanged else timestamp(now)
    dated = new.model_copy(update={"last_transition_time": since})
    if former is None:
        return [*conditions, dated]
    return [dated if condition.type == new.type else condition for condition in conditions]
