"""Conditions of a service: for programs, `kubectl wait` and Argo CD."""

from collections.abc import Sequence
from dataclasses import dataclass

from lmforge_api.common import Condition
from lmforge_api.inferenceservice_adapters import AdapterStatus
from lmforge_operator.engine.conditions import set_condition
from lmforge_operator.labels import ConditionType, Reason
from lmforge_operator.pods.holdups import Finding, sentence
from lmforge_operator.serving.adapters.words import first_problem
from lmforge_operator.serving.rollout import Plan
from lmforge_operator.serving.service import Serving


@dataclass(frozen=True)
class _Said:
    """Whether a condition holds, and why."""

    holds: bool
    reason: str
    message: str = ""


def conditions_of(
    serving: Serving,
    share: Plan,
    degraded: Finding | None,
    *,
    wanted: int,
    message: str,
    adapters: Sequence[AdapterStatus] = (),
) -> list[Condition]:
    """All conditions; a time of transition is kept while the condition's status stays."""
    why_not = _Said(False, degraded.reason if degraded else _at_rest(serving, wanted), message)
    said = {
        ConditionType.INPUTS_READY: _inputs(serving),
        ConditionType.ENGINE_READY: _Said(True, Reason.READY) if serving.up_to_date else why_not,
        ConditionType.ROUTER_READY: _front(serving),
        ConditionType.AVAILABLE: _available(serving, wanted) or why_not,
        ConditionType.PROGRESSING: _progressing(serving, share, wanted=wanted, message=message),
        ConditionType.DEGRADED: _Said(True, degraded.reason, sentence(degraded.message))
        if degraded
        else _Said(False, "AsExpected"),
    }
    if adapters:
        said[ConditionType.ADAPTERS_READY] = _adapters(adapters)
    conditions: list[Condition] = [each for each in serving.status.conditions if each.type in said]
    for kind, each in said.items():
        new = Condition(
            type=kind,
            status="True" if each.holds else "False",
            reason=each.reason,
            message=each.message,
            observed_generation=serving.generation,
        )
        conditions = set_condition(conditions, new, serving.now)
    return conditions


def _inputs(serving: Serving) -> _Said:
    waits = serving.model.waiting_for
    return _Said(False, serving.model.reason, sentence(waits)) if waits else _Said(True, "ModelFound")


def _front(serving: Serving) -> _Said:
    if serving.router.ready and serving.gateway.ready:
        return _Said(True, Reason.READY)
    if serving.spec.stopped:
        return _Said(False, Reason.STOPPED)
    return _Said(False, Reason.ROUTER_STARTING, "No pod of the router or the gateway is available yet.")


def _adapters(adapters: Sequence[AdapterStatus]) -> _Said:
    problem = first_problem(adapters)
    return _Said(False, problem.reason, sentence(problem.message)) if problem else _Said(True, Reason.READY)


def _available(serving: Serving, wanted: int) -> _Said | None:
    """Whether a request gets an answer, if need be after a start from zero."""
    if serving.spec.stopped or not _front(serving).holds:
        return None
    if serving.ready:
        return _Said(True, Reason.READY)
    return _Said(True, Reason.SCALED_TO_ZERO) if not wanted and serving.gateway.wanted else None


def _progressing(serving: Serving, share: Plan, *, wanted: int, message: str) -> _Said:
    moving = share.current != serving.update or serving.up_to_date < wanted
    if moving and not serving.spec.stopped and not serving.model.waiting_for:
        return _Said(True, Reason.ROLLING_OUT if share.current != serving.update else Reason.LOADING, message)
    return _Said(False, "Settled")


def _at_rest(serving: Serving, wanted: int) -> str:
    if serving.spec.stopped:
        return Reason.STOPPED
    return Reason.LOADING if wanted else Reason.SCALED_TO_ZERO
