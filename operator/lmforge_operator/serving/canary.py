"""A canary: a new revision gets a share of the requests first, and more only while its gates hold. Pure.

With N replicas that the load needs, and steps of p1 < p2 < … percent:

1. Loading. The update gets p1 % of N replicas, at least one, beside the N of the revision that serves, which keeps all
   of them until the last step has passed: a roll-back waits for no start. No request goes to the update yet.
2. Measuring. Once these replicas are ready, and the update's own router, p1 % of the requests go there. The step is
   passed when it has lasted its seconds, the update has answered minRequests, and the gates hold. Then the next step's
   replicas start, and its share follows when they are ready. A gate that fails rolls the update back.
3. Shifting. After the last step replicas change one by one as in every rollout, and the share follows the update's part
   of the ready ones. When it has them all it gets all requests, and a moment later the old revision's last ones go.

The share never falls, except to 0 on a roll-back. How far it is stands in status.canary, and the next step is the first
one with a larger percent: so it goes on where it was after a restart of the operator, and when steps are changed on the
way. What gateways have counted since a step began they say again each second; only what a gateway's pod that is gone
had counted is lost with the operator.

There is nothing to compare with a revision that can't serve any more: then the update takes over as always.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from lmforge_api.inferenceservice import CanaryStatus
from lmforge_api.inferenceservice_parts import Canary, CanaryStep
from lmforge_operator.engine.conditions import timestamp
from lmforge_operator.pods.state import timestamp as moment
from lmforge_operator.serving import trouble
from lmforge_operator.serving.gates import Counts, failed_gate, has_seen_enough
from lmforge_operator.serving.observed import RevisionSeen
from lmforge_operator.serving.rollout import Plan
from lmforge_operator.serving.service import Serving

SETTLING = timedelta(seconds=3)
"""Gateways hear within a second that all requests go to the update: only then the old revision's last replicas go."""


@dataclass(frozen=True)
class Trial:
    """How far the update is from now on."""

    status: CanaryStatus
    replicas: int
    """The update's, while it is on trial."""
    kept: int
    """Those of the revision that serves."""
    failure: str = ""
    """The gate that failed, with its numbers."""
    over: bool = False
    """The rollout goes on as every other does."""


@dataclass(frozen=True)
class Look:
    """What a trial's next step depends on."""

    canary: Canary
    before: CanaryStatus
    serving: Serving
    wanted: int
    update: RevisionSeen | None

    @property
    def ready(self) -> int:
        return self.update.ready if self.update else 0

    @property
    def of_update(self) -> Counts:
        return self.serving.counts.get(self.before.revision, Counts())

    @property
    def of_current(self) -> Counts:
        return self.serving.counts.get(self.serving.status.current_revision, Counts())

    @property
    def lasted(self) -> timedelta:
        return self.serving.now - moment(self.before.step_started_at)


def trial(serving: Serving, *, wanted: int) -> Trial | None:
    """The update's trial, if there has to be one."""
    canary, update, current = serving.spec.rollout.canary, serving.update, serving.status.current_revision
    if canary is None or not serving.by_revision or update in ("", current) or current not in serving.revisions:
        return None
    before = serving.status.canary
    if before is None or before.revision != update:
        if _cannot_serve(serving, current):
            return None
        before = CanaryStatus(revision=update)
    look = Look(canary, before, serving, wanted, serving.revisions.get(update))
    return _PHASES[before.phase](look)


def trial_plan(serving: Serving, found: Trial) -> Plan:
    """Replicas while the update is on trial: a revision that came between has none."""
    current, update = serving.status.current_revision, serving.update
    shares = dict.fromkeys(serving.revisions, 0) | {current: found.kept, update: found.replicas}
    gone = tuple(name for name, seen in serving.revisions.items() if name not in (current, update) and seen.gone)
    return Plan(shares, current, gone)


def next_step(canary: Canary, percent: int) -> CanaryStep | None:
    """The first one with a larger share."""
    return next((step for step in canary.steps if step.percent > percent), None)


def replicas_for(percent: int, wanted: int) -> int:
    """The update's part of the replicas that the load needs, at least one."""
    return max(1, -(-wanted * percent // 100)) if wanted else 0


def _cannot_serve(serving: Serving, current: str) -> bool:
    struggle = serving.struggle(current)
    return struggle is not None and not struggle.revision.ready and trouble.given_up(struggle) is not None


def _loading(look: Look) -> Trial:
    if look.serving.shared_router is not None:  # it would send requests to the update's replicas too
        return Trial(look.before, 0, look.wanted)
    return _rise(look, look.canary.steps[0], look.before)


def _measuring(look: Look) -> Trial:
    gates, measured = look.canary.gates, _measured(look)
    failure = failed_gate(gates, look.of_update, look.of_current)
    if failure:
        said = f"at {look.before.percent}% of the traffic, {failure}"
        return Trial(_measured(look, always=True), 0, look.wanted, failure=said)
    if not has_seen_enough(gates, look.of_update, look.of_current) or look.lasted < timedelta(seconds=_seconds(look)):
        return Trial(measured, replicas_for(look.before.percent, look.wanted), look.wanted)
    step = next_step(look.canary, look.before.percent)
    return _rise(look, step, measured) if step else _shifting(_shifted(look, measured))


def _rise(look: Look, step: CanaryStep, otherwise: CanaryStatus) -> Trial:
    """To that step's share, once it has the replicas for it."""
    needed = replicas_for(step.percent, look.wanted)
    router = look.serving.routers.get(look.before.revision)
    if not needed or look.ready < needed or router is None or not router.available:
        return Trial(otherwise, needed, look.wanted)
    began = timestamp(look.serving.now)
    fresh = CanaryStatus(revision=look.before.revision, phase="Measuring", percent=step.percent, step_started_at=began)
    return Trial(fresh, needed, look.wanted)


def _shifted(look: Look, measured: CanaryStatus) -> Look:
    shifting = measured.model_copy(update={"phase": "Shifting", "step_started_at": timestamp(look.serving.now)})
    return replace(look, before=shifting)


def _shifting(look: Look) -> Trial:
    before, current = look.before, look.serving.revisions[look.serving.status.current_revision]
    has_all = look.ready >= max(1, look.wanted)
    part = 100 if has_all else min(99, 100 * look.ready // max(1, look.ready + current.ready))
    rises = part > before.percent
    if rises:
        before = before.model_copy(update={"percent": part, "step_started_at": timestamp(look.serving.now)})
    settles = has_all and (rises or look.lasted < SETTLING)
    return Trial(before, look.wanted, min(look.wanted, current.replicas), over=not settles)


def _seconds(look: Look) -> int:
    """How long this step has to last: the one of this share, or the one before where it has been taken out."""
    passed = [step.seconds for step in look.canary.steps if step.percent <= look.before.percent]
    return passed[-1] if passed else 0


def _measured(look: Look, *, always: bool = False) -> CanaryStatus:
    """With what was counted, when it is time to show it."""
    if not (look.serving.measure or always):
        return look.before
    canary, current = look.of_update, look.of_current
    shown = {
        "requests": canary.requests,
        "streamed": canary.first_tokens,
        "current_streamed": current.first_tokens,
        "error_rate": f"{canary.error_percent:.1f}%" if canary.requests else "",
        "time_to_first_token": _milliseconds(canary),
        "current_time_to_first_token": _milliseconds(current),
    }
    return look.before.model_copy(update=shown)


def _milliseconds(counts: Counts) -> str:
    mean = counts.first_token_ms
    return "" if mean is None else f"{mean:.0f}ms"


_PHASES: Mapping[str, Callable[[Look], Trial]] = {"Loading": _loading, "Measuring": _measuring, "Shifting": _shifting}
