"""How many replicas there should be, and why.

Each measure says how many it asks for: total load / target of one replica, with a tenth of a replica as tolerance. The
one that asks for the most decides. As in the HorizontalPodAutoscaler's algorithm two windows then settle it: upwards
goes what was asked for throughout the last seconds, downwards only what nothing in the whole delay asked more than.

Replicas that still load count: what is asked for is a number in all, not so many more. And no step goes beyond twice
the replicas that are ready: a queue that grows while they load says little about how many it takes to serve it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from lmforge_api.inferenceservice_parts import Autoscaling
from lmforge_operator.serving.load import Load

CONFIRMED = timedelta(seconds=3)
TOLERANCE = 0.1


@dataclass(frozen=True)
class Held:
    """What gateways say: requests that wait for a replica, requests that are on their way."""

    waiting: int = 0
    running: int = 0
    recent: bool = False
    """Whether a request ended just now."""


@dataclass(frozen=True)
class Fleet:
    """The service's replicas, all revisions together."""

    wanted: int
    """As decided before."""
    ready: int = 0
    stuck: str = ""
    """Why more replicas would find no place."""


@dataclass(frozen=True)
class Wish:
    """What the load asks for at a moment."""

    time: datetime
    replicas: int


@dataclass(frozen=True)
class History:
    """Wishes within the longer window, oldest first, and since when they have been kept."""

    since: datetime
    wishes: tuple[Wish, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """How many replicas from now on, why (when that is a change), and what keeps it from more."""

    replicas: int
    why: str
    history: History
    held_back: str = ""


def decide(
    load: Load, held: Held | None, fleet: Fleet, autoscaling: Autoscaling, *, history: History | None, now: datetime
) -> Verdict:
    """The number of replicas from now on. `held` is None while gateways that should be there say nothing."""
    asked, why = wish(load, held, fleet, autoscaling)
    history = _remember(history or History(now), Wish(now, asked), autoscaling, now)
    up, down = _settled(history, fleet, autoscaling, now)
    chosen = min(max(fleet.wanted, up), down)
    least, most = autoscaling.min_replicas, autoscaling.max_replicas
    chosen = min(max(chosen, least), most)
    if chosen > fleet.wanted and fleet.stuck and fleet.wanted >= least:
        return Verdict(fleet.wanted, "", history, f"Would have {chosen} replicas ({why}), but {fleet.stuck}")
    return Verdict(chosen, _reason(chosen, fleet, autoscaling, why), history)


def wish(load: Load, held: Held | None, fleet: Fleet, autoscaling: Autoscaling) -> tuple[int, str]:
    """What the load asks for, within bounds, and the measure that does."""
    waiting = load.waiting + (held.waiting if held else 0)
    requests, full = load.running + waiting, 100 * load.kv_cache_use
    targets = autoscaling.targets
    asked = [
        (_needed(waiting, targets.waiting_requests), f"{waiting} requests wait, target {targets.waiting_requests}"),
        (
            _needed(requests, targets.running_requests),
            f"{requests} requests, target {targets.running_requests} at a time",
        ),
        (_needed(full, targets.kv_cache_use), _cache_words(load, targets.kv_cache_use)),
        (_for_first_token(load, fleet, targets.ttft_ms), _first_token_words(load, targets.ttft_ms)),
        (1 if _active(load, held) else 0, "there are requests"),
    ]
    if load.measured < fleet.ready or held is None:
        asked.append((fleet.wanted, "not all replicas could be measured"))
    most, why = max(asked, key=lambda entry: entry[0])
    limit = max(fleet.wanted, 2 * max(1, fleet.ready))
    return min(max(min(most, limit), autoscaling.min_replicas), autoscaling.max_replicas), why


def _needed(total: float, target: float) -> int:
    """Replicas for this load. Any load at all needs one; beyond that a tenth of one is tolerated."""
    return max(ceil(total / target - TOLERANCE), 1 if total > 0 else 0)


def _for_first_token(load: Load, fleet: Fleet, target_ms: int | None) -> int:
    """One more than are ready when first tokens take too long; as many as are ready unless they take half of that."""
    if target_ms is None or load.first_token_seconds is None:
        return 0
    taken = 1000 * load.first_token_seconds
    if taken > target_ms:
        return fleet.ready + 1
    return fleet.ready if taken > target_ms / 2 else 0


def _cache_words(load: Load, target: int) -> str:
    return f"KV caches are {100 * load.kv_cache_use / max(load.measured, 1):.0f}% full, target {target}%"


def _first_token_words(load: Load, target_ms: int | None) -> str:
    taken = 1000 * (load.first_token_seconds or 0.0)
    return f"first tokens take {taken:.0f} ms, target {target_ms}"


def _active(load: Load, held: Held | None) -> bool:
    return load.active or (held is not None and (held.waiting + held.running > 0 or held.recent))


def _remember(history: History, new: Wish, autoscaling: Autoscaling, now: datetime) -> History:
    start = now - max(_delay(autoscaling), CONFIRMED)
    return History(history.since, (*(old for old in history.wishes if old.time >= start), new))


def _settled(history: History, fleet: Fleet, autoscaling: Autoscaling, now: datetime) -> tuple[int, int]:
    """At least, and at most, so many: what the short and the long window agree on."""
    if fleet.wanted == 0:  # nobody is served: there is nothing to wait for
        return history.wishes[-1].replicas, history.wishes[-1].replicas
    up = min(each.replicas for each in history.wishes if each.time >= now - CONFIRMED)
    down = max(each.replicas for each in history.wishes if each.time >= now - _delay(autoscaling))
    if now - history.since < _delay(autoscaling):
        down = max(down, fleet.wanted)
    return up, down


def _delay(autoscaling: Autoscaling) -> timedelta:
    return timedelta(seconds=autoscaling.scale_down_delay_seconds)


def _reason(chosen: int, fleet: Fleet, autoscaling: Autoscaling, why: str) -> str:
    if chosen == fleet.wanted:
        return ""
    if chosen > fleet.wanted:
        return why if chosen > autoscaling.min_replicas else f"{why}; minReplicas is {chosen}"
    if fleet.wanted > autoscaling.max_replicas:
        return f"maxReplicas is {autoscaling.max_replicas}"
    return f"not needed for {autoscaling.scale_down_delay_seconds} s"
