"""Phase, reason and message of a service: the words that the person at 3 a.m. reads."""

from collections.abc import Sequence

from lmforge_api.inferenceservice import (
    CanaryStatus,
    FailedRevision,
    InferenceServiceStatus,
    Performance,
    ReplicaCounts,
    ScalingStatus,
    ScalingStep,
    ServedModelStatus,
    ServicePhase,
    TrafficShare,
)
from lmforge_api.inferenceservice_adapters import AdapterStatus
from lmforge_api.inferenceservice_parts import Canary, CanaryGates
from lmforge_operator.labels import Reason
from lmforge_operator.pods.holdups import Finding, container_config, image_pull, sentence, unschedulable
from lmforge_operator.serving import trouble
from lmforge_operator.serving.adapters.words import statuses
from lmforge_operator.serving.conditions import conditions_of
from lmforge_operator.serving.gates import needs_streams
from lmforge_operator.serving.load import Load
from lmforge_operator.serving.rollout import Plan
from lmforge_operator.serving.service import Part, Serving
from lmforge_operator.words import short_number

Words = tuple[ServicePhase, str, str]


def status_of(
    serving: Serving,
    share: Plan,
    *,
    wanted: int,
    held_back: str,
    failed: FailedRevision | None,
    steps: list[ScalingStep],
    canary: CanaryStatus | None = None,
    traffic: Sequence[TrafficShare] = (),
) -> InferenceServiceStatus:
    """The whole status."""
    degraded = _degraded(serving, share, failed)
    phase, reason, message = _words(serving, share, degraded, canary, wanted=wanted, held_back=held_back)
    ready = serving.up_to_date
    adapters = adapter_statuses(serving)
    return InferenceServiceStatus(
        observed_generation=serving.generation,
        phase=phase,
        reason=reason,
        message=message,
        conditions=conditions_of(serving, share, degraded, wanted=wanted, message=message, adapters=adapters),
        url=serving.url,
        ready=f"{ready}/{wanted}",
        replicas=ReplicaCounts(
            desired=wanted,
            ready=ready,
            loading=serving.loading,
            draining=serving.draining,
            total=serving.ready + serving.loading,
        ),
        selector=serving.selector,
        current_revision=share.current if _served(serving, share.current) else "",
        update_revision=serving.update,
        failed_revision=failed,
        group_ends=[each.ends for each in serving.revisions.values() if each.ends],
        traffic=list(traffic),
        canary=canary,
        model=_model(serving),
        adapters=adapters,
        scaling=ScalingStatus(last=steps),
        performance=_performance(serving.load) if serving.measure else serving.status.performance,
    )


def adapter_statuses(serving: Serving) -> list[AdapterStatus]:
    """The adapters, as far as replicas that take requests have them."""
    return statuses(serving.adapters, serving.taking_requests, serving.replica_adapters)


def _served(serving: Serving, revision: str) -> bool:
    """Whether the revision has ever been ready."""
    seen = serving.revisions.get(revision)
    return revision == serving.status.current_revision or (seen is not None and seen.ready > 0)


def _model(serving: Serving) -> ServedModelStatus | None:
    model = serving.model
    if not (model.uri or model.problem):
        return serving.status.model
    return ServedModelStatus(
        source=model.source,
        uri=model.uri,
        digest=model.digest,
        format=model.format,
        size_bytes=model.size,
        shape=model.shape,
        lineage=list(model.lineage),
        problem=model.problem,
    )


def _performance(load: Load) -> Performance:
    tokens, first = load.tokens_per_second, load.first_token_seconds
    return Performance(
        tokens_per_second="" if tokens is None else short_number(tokens),
        time_to_first_token="" if first is None else f"{1000 * first:.0f}ms",
    )


def _degraded(serving: Serving, share: Plan, failed: FailedRevision | None) -> Finding | None:
    """What is wrong and won't pass by itself."""
    if failed:
        keeps = f"Revision {share.current} keeps serving" if share.current else "Nothing serves"
        return Finding(failed.reason, f"revision {failed.revision} was rolled back: {failed.message} {keeps}")
    if serving.spec.stopped:
        return None
    for revision in dict.fromkeys((serving.update, share.current)):
        struggle = serving.struggle(revision)
        found = trouble.first_finding(struggle) if struggle else None
        if found and found.stuck:
            return found
    return _part_trouble("router", serving.router) or _part_trouble("gateway", serving.gateway)


def _part_trouble(name: str, part: Part) -> Finding | None:
    if part.ready:
        return None
    total = len(part.pods)
    found = image_pull(part.pods, total=total) or container_config(part.pods) or unschedulable(part.pods, total=total)
    return Finding(found.reason, f"the {name} can't start: {found.message}") if found else None


def _words(
    serving: Serving,
    share: Plan,
    degraded: Finding | None,
    canary: CanaryStatus | None,
    *,
    wanted: int,
    held_back: str,
) -> Words:
    """An ordered chain: the first that holds is said."""
    keeps = f" Revision {share.current} keeps serving." if serving.ready else ""
    if serving.spec.stopped:
        return "Stopped", Reason.STOPPED, "Stopped; set stopped to false to serve again."
    if serving.model.waiting_for:
        phase: ServicePhase = "Updating" if serving.ready else "Pending"
        return phase, serving.model.reason, f"{sentence(serving.model.waiting_for)}{keeps}"
    if degraded:
        return "Degraded", degraded.reason, sentence(degraded.message)
    if held_back:
        return "Ready" if serving.ready else "Loading", Reason.UNSCHEDULABLE, sentence(held_back)
    if not wanted and serving.gateway.wanted and not serving.gateway.ready:
        return "Loading", Reason.ROUTER_STARTING, "Scaled to zero; the gateway, which holds requests, is starting."
    if not wanted:
        message = "Scaled to zero: the next request is held until a replica is ready."
        return "Idle", Reason.SCALED_TO_ZERO, message if serving.gateway.wanted else "Scaled to zero by replicas: 0."
    if canary and canary.percent:
        return "Updating", Reason.CANARY, canary_words(canary, serving.spec.rollout.canary)
    if share.current not in ("", serving.update):
        return "Updating", Reason.ROLLING_OUT, f"{_progress(serving)}{keeps}"
    if not serving.ready:
        return "Loading", Reason.LOADING, _progress(serving)
    if not (serving.router.ready and serving.gateway.ready):
        return "Loading", Reason.ROUTER_STARTING, "Replicas are ready; the router or gateway before them is starting."
    return "Ready", Reason.READY, f"{serving.ready} of {wanted} replicas are ready."


def canary_words(status: CanaryStatus, canary: Canary | None) -> str:
    """The share, and what is still missing for more."""
    told = f"Canary: {status.percent}% of requests go to revision {status.revision}"
    if status.phase == "Shifting" or canary is None:
        return f"{told}; its gates have held, and it takes over."
    seen, gates = status.requests, canary.gates
    few = f"{seen} of {gates.min_requests} requests seen (it goes on at gates.minRequests: lower that where few come)"
    measured = [few if seen < gates.min_requests else f"{seen} requests seen"]
    if status.error_rate:
        measured.append(f"error rate {status.error_rate}")
    if status.time_to_first_token:
        other = status.current_time_to_first_token
        measured.append(f"first token {status.time_to_first_token}" + (f" against {other}" if other else ""))
    return f"{told}, {', '.join(measured)}.{_streams_missing(status, canary.gates)}"


def _streams_missing(status: CanaryStatus, gates: CanaryGates) -> str:
    """Why a step lasts though there were requests enough, and what to do."""
    needed = gates.min_requests
    if not needs_streams(gates) or status.requests < needed or not needed:
        return ""
    remedy = "Stream some requests, lower gates.minRequests, or leave that gate out."
    if status.streamed < needed:
        return (
            f" The step lasts until {needed} answers were streamed, {status.streamed} were: others have no first "
            f"token, which a gate is on. {remedy}"
        )
    if gates.max_ttft_percent is not None and not status.current_streamed:
        return (
            " The step lasts until the current revision has streamed an answer, for gates.maxTtftPercent to compare "
            f"with. {remedy}"
        )
    return ""


def _progress(serving: Serving) -> str:
    struggle = serving.struggle(serving.update)
    found = trouble.first_finding(struggle) if struggle else None
    if struggle is None or found:
        return sentence(f"revision {serving.update}: {found.message if found else 'its Deployment is being made'}")
    return f"Revision {serving.update} is ready; its router is starting."
