"""The life of a service: from what is observed to how many replicas each revision gets, and the status that says so.

Level-based: the answer is the same however often it is asked. First it is settled whether the update has failed, then
how many replicas the load needs, then how the revisions share them.
"""

from dataclasses import dataclass

from lmforge_api.inferenceservice import FailedRevision, ScalingStep
from lmforge_operator.engine.conditions import timestamp
from lmforge_operator.labels import Role
from lmforge_operator.pods.holdups import sentence
from lmforge_operator.serving import autoscaler, story, trouble
from lmforge_operator.serving.adapters.words import settled as adapters_settled
from lmforge_operator.serving.autoscaler import Fleet, History
from lmforge_operator.serving.rollout import Plan, plan
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
    failed = failure(serving)
    scale = scaled(serving)
    share = plan(
        serving.revisions,
        update=serving.update,
        current=serving.status.current_revision,
        wanted=scale.replicas,
        surge=serving.spec.rollout.surge,
        failed=failed is not None,
    )
    status = story.status_of(
        serving, share, wanted=scale.replicas, held_back=scale.held_back, failed=failed, steps=_steps(serving, scale)
    )
    front = _front(serving)
    look_again = _look_again(serving, share, scale, front)
    if look_again is not None and not adapters_settled(status.adapters):
        look_again = min(look_again, MOVING_SECONDS)
    return Decision(status, share, front, scale.history, look_again)


def failure(serving: Serving) -> FailedRevision | None:
    """The update, if it has been given up while another revision can serve."""
    former, update = serving.status.failed_revision, serving.update
    current, deadline = serving.status.current_revision, serving.spec.rollout.ready_deadline_seconds
    if former and former.revision == update and deadline <= former.ready_deadline_seconds:
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
        holds = serving.front == Role.GATEWAY and not serving.ready and not serving.spec.stopped
        return Role.GATEWAY if holds else Role.ROUTER
    moves = serving.front == Role.ROUTER and not serving.gateway.ready
    return Role.ROUTER if moves else Role.GATEWAY


def _look_again(serving: Serving, share: Plan, scale: Scale, front: str) -> float | None:
    scaling = serving.spec.autoscaling
    if serving.front not in ("", front):  # nobody tells of the Service's move
        return MOVING_SECONDS
    if serving.spec.stopped:
        return None
    if scaling is not None and scaling.engine == "builtin" and scale.replicas:
        return SCALING_SECONDS
    if not scale.replicas:
        return LOADING_SECONDS if serving.loading else None
    return LOADING_SECONDS if serving.loading or share.current != serving.update else SHOWN_SECONDS
