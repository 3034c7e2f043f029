"""A service with a canary in a few words: specs, counts, and how far it is."""

from typing import Any

from serving_builders import NEW, OLD, UP, at, desired, pod, revision, serving, spec

from lmforge_operator.engine.conditions import timestamp
from lmforge_operator.serving.gates import Counts
from lmforge_operator.serving.observed import FrontSeen, RevisionSeen
from lmforge_operator.serving.service import Decision, Serving

STEPS = [{"percent": 10, "seconds": 10}, {"percent": 50, "seconds": 20}]
GATES = {"minRequests": 20, "maxErrorPercent": 5, "maxTtftMs": 200, "maxTtftPercent": 150}
ROUTERS = {name: FrontSeen(f"{name}-router", "u", "h", available=1) for name in (OLD, NEW)}


def counts(requests: int, errors: int = 0, ms: float = 80, streams: int | None = None) -> Counts:
    streams = requests if streams is None else streams
    return Counts(requests, errors, streams, streams * ms / 1000)


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
