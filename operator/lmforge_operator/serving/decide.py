"""The life of a service: from what is observed to how many replicas each revision gets, and the status that says so.

Level-based: the answer is the same however often it is asked. First it is settled how many replicas the load needs and
whether the update has failed, on its own or on trial as a canary; then how the revisions share replicas and requests.
"""

from dataclasses import dataclass, replace

from lmforge_api.inferenceservice import FailedRevision, ScalingStep
from lmforge_operator.engine.conditions import timestamp
from lmforge_operator.labels import Reason, Role
from lmforge_operator.pods.holdups import sentence
from lmforge_operator.serving import autoscaler, routing, story, trouble
from lmforge_operator.serving.adapters.words import settled as adapters_settled
from lmforge_operator.serving.autoscaler import Fleet, History
from lmforge_operator.serving.canary import Trial, trial, trial_plan
from lmforge_operator.serving.names import digest
from lmforge_operator.serving.rollout import Plan, plan
from lmforge_operator.serving.routing import Routing
from lmforge_operator.serving.service import Decision, Serving

SCALING_SECONDS = 2.0
"""How often the autoscaler looks: twice, with the measurements' own pause, is within five seconds."""
MOVING_SECONDS = 1.0
LOADING_SECONDS = 5.0
SHOWN_SECONDS = 10.0
KEPT_STEPS = 10


@dataclass(frozen=True)
class Scale:
    """How many replicas from now on, why, and what keeps it from more."""

    replicas: int
    why: str = ""
    history: History | None = None
    held_back: str = ""


def decide(serving: Serving) -> Decision:
    """What the status is now and what to do."""
    scale = scaled(serving)
    failed = failure(serving)
    tried = None if failed else trial(serving, wanted=scale.replicas)
    if tried and tried.failure:
        failed, tried = _gate_failed(serving, tried), None
    share = _shared(serving, scale, tried, failed)
    front = _front(serving)
    routed = _routed(serving, share, tried, front)
    status = story.status_of(
        serving,
        share,
        wanted=scale.replicas,
        held_back=scale.held_back,
        failed=failed,
        steps=_steps(serving, scale),
        canary=tried.status if tried and share.current != serving.update else None,
        traffic=routed.traffic,
    )
    look_again = _look_again(serving, share, scale, front)
    if look_again is not None and not adapters_settled(status.adapters):
        look_again = min(look_again, MOVING_SECONDS)
    return Decision(status, share, front, routed, scale.history, look_again)


def failure(serving: Serving) -> FailedRevision | None:
    """The update, if it has been given up while another revision can serve."""
    former, update = serving.status.failed_revision, serving.update
    current, deadline = serving.status.current_revision, serving.spec.rollout.ready_deadline_seconds
    same_gates = former is not None and former.canary in ("", _tried_with(serving))
    if former and former.revision == update and deadline <= former.ready_deadline_seconds and same_gates:
        return former
    struggle = serving.struggle(update)
    if struggle is None or current in ("", update) or current not in serving.revisions:
        return None
    found = trouble.given_up(struggle)
    if found is None:
        return None
    return FailedRevision(
        revision=update,
        ready_deadline_seconds=deadline,
        reason=found.reason,
        message=sentence(found.message),
        time=timestamp(serving.now),
    )


def _gate_failed(serving: Serving, tried: Trial) -> FailedRevision:
    return FailedRevision(
        revision=serving.update,
        ready_deadline_seconds=serving.spec.rollout.ready_deadline_seconds,
        canary=_tried_with(serving),
        reason=Reason.GATE_FAILED,
        message=sentence(tried.failure),
        time=timestamp(serving.now),
    )


def _tried_with(serving: Serving) -> str:
    canary = serving.spec.rollout.canary
    return digest(canary.wire() if canary else None)


def _shared(serving: Serving, scale: Scale, tried: Trial | None, failed: FailedRevision | None) -> Plan:
    """How the revisions share the replicas."""
    if tried and not tried.over:
        return trial_plan(serving, tried)
    return plan(
        serving.revisions,
        update=serving.update,
        current=serving.status.current_revision,
        wanted=scale.replicas,
        surge=serving.spec.rollout.surge,
        failed=failed is not None,
    )


def _routed(serving: Serving, share: Plan, tried: Trial | None, front: str) -> Routing:
    """Which routers there are, and how the revisions share requests."""
    shared, routers, current = serving.shared_router, serving.routers, share.current
    if not serving.by_revision:
        return routing.shared_by_all(shared, routers, current=current)
    own = tuple(name for name in share.replicas if name not in share.retire)
    routed = routing.by_revision(shared, routers, own=own, current=current, front=front)
    if not routed.upstream:
        return routed
    percent = tried.status.percent if tried and current != serving.update else 0
    return replace(routed, traffic=routing.shares(current, serving.update, percent))


def scaled(serving: Serving) -> Scale:
    """How many replicas there should be."""
    spec, former = serving.spec, serving.status.replicas.desired
    scaling = spec.autoscaling
    if spec.stopped:
        return Scale(0, "stopped")
    if scaling is None:
        return Scale(1 if spec.replicas is None else spec.replicas, "spec.replicas")
    if scaling.engine == "external":
        asked = min(max(spec.replicas or scaling.min_replicas, scaling.min_replicas), scaling.max_replicas)
        return Scale(asked, "spec.replicas")
    unproven = not serving.status.current_revision  # a new service shows first that it can work
    if unproven or not serving.hears_demand:
        scaling = scaling.model_copy(update={"min_replicas": max(1, scaling.min_replicas)})
    fleet = Fleet(former, serving.ready, _stuck(serving))
    verdict = autoscaler.decide(serving.load, serving.held, fleet, scaling, history=serving.history, now=serving.now)
    return Scale(verdict.replicas, verdict.why, verdict.history, verdict.held_back)


def _stuck(serving: Serving) -> str:
    """Why more replicas would find no place."""
    struggles = (serving.struggle(name) for name in serving.revisions)
    found = next((found for each in struggles if each and (found := trouble.cannot_grow(each))), None)
    return found.message if found else ""


def _steps(serving: Serving, scale: Scale) -> list[ScalingStep]:
    """The former steps, and this one if it is one."""
    before = serving.status.replicas.desired
    steps = serving.status.scaling.last
    if scale.replicas == before or serving.status.observed_generation == 0:
        return steps
    step = ScalingStep(from_=before, to=scale.replicas, why=scale.why, time=timestamp(serving.now))
    return [*steps, step][-KEPT_STEPS:]


def _front(serving: Serving) -> str:
    """Whom the Service points at: a gateway once it can take what the router took, the router once it has an engine."""
    if not serving.gateway.wanted:
        can_answer = serving.ready and serving.router.ready
        holds = serving.front == Role.GATEWAY and not can_answer and not serving.spec.stopped
        return Role.GATEWAY if holds else Role.ROUTER
    moves = serving.front == Role.ROUTER and not serving.gateway.ready
    return Role.ROUTER if moves else Role.GATEWAY


def _look_again(serving: Serving, share: Plan, scale: Scale, front: str) -> float | None:
    scaling = serving.spec.autoscaling
    if serving.front not in ("", front):  # nobody tells of the Service's move
        return MOVING_SECONDS
    if serving.spec.stopped:
        return None
    on_trial = serving.by_revision and share.current != serving.update and not serving.status.failed_revision
    if scale.replicas and (on_trial or (scaling is not None and scaling.engine == "builtin")):
        return SCALING_SECONDS
    if not scale.replicas:
        return LOADING_SECONDS if serving.loading else None
    return LOADING_SECONDS if serving.loading or share.current != serving.update else SHOWN_SECONDS
