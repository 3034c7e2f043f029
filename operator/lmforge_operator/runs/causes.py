"""Why an attempt is over: one cause out of what all its pods say.

When one rank dies the others follow with PeerLost within a second, so what a pod says is weighed: its own fault first,
then what was done to it, then that it lost a peer. As more pods report, the answer can only get more precise.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

from lmforge_api.run import ExitCode
from lmforge_operator.labels import Reason
from lmforge_operator.runs.observed import JobSeen, PodSeen


@dataclass(frozen=True)
class Cause:
    """Why it is over, in a word and in a sentence, and whose fault it is."""

    reason: str
    message: str
    pod: str = ""
    node: str = ""
    exit_code: int | None = None
    infrastructure: bool = False
    step: int | None = None


_BY_CODE = {
    ExitCode.USER_ERROR: Reason.USER_ERROR,
    ExitCode.DATA_ERROR: Reason.DATA_ERROR,
    ExitCode.NON_FINITE_LOSS: Reason.NON_FINITE_LOSS,
    ExitCode.HANG: Reason.HANG,
    ExitCode.OUT_OF_MEMORY: Reason.OUT_OF_MEMORY,
    ExitCode.STORE_FULL: Reason.STORE_FULL,
    ExitCode.INTERNAL: Reason.INTERNAL_ERROR,
    ExitCode.PEER_LOST: Reason.PEER_LOST,
    ExitCode.REGISTRY_UNAVAILABLE: Reason.REGISTRY_UNAVAILABLE,
    ExitCode.SUSPENDED: Reason.SUSPENDED,
    ExitCode.KILLED: Reason.KILLED,
    ExitCode.TERMINATED: Reason.TERMINATED,
}
_BY_DISRUPTION = {
    "DeletionByTaintManager": Reason.NODE_LOST,
    "DeletionByPodGC": Reason.NODE_LOST,
    "NodeLost": Reason.NODE_LOST,
    "PreemptionByScheduler": Reason.PREEMPTED,
    "EvictionByEvictionAPI": Reason.EVICTED,
    "TerminationByKubelet": Reason.EVICTED,
    "Evicted": Reason.EVICTED,
}
_INFRASTRUCTURE = frozenset(
    {Reason.NODE_LOST, Reason.PREEMPTED, Reason.EVICTED, Reason.POD_DELETED, Reason.JOB_DELETED, Reason.PEER_LOST,
     Reason.TERMINATED, Reason.UNSCHEDULABLE, Reason.STORE_FULL, Reason.REGISTRY_UNAVAILABLE}
)  # fmt: skip
_SENTENCES: dict[str, Callable[[PodSeen], str]] = {
    Reason.NODE_LOST: lambda pod: f"node {pod.node} stopped answering (pod {pod.name})",
    Reason.PREEMPTED: lambda pod: f"pod {pod.name} was preempted by one of higher priority",
    Reason.EVICTED: lambda pod: f"pod {pod.name} was evicted from node {pod.node}",
    Reason.POD_DELETED: lambda pod: f"pod {pod.name} on {pod.node or 'no node'} was deleted",
}
_FOLLOWERS = (Reason.SUSPENDED, Reason.TERMINATED, Reason.PEER_LOST)


def end_of(job: JobSeen, pods: tuple[PodSeen, ...], *, nodes: int) -> Cause | None:
    """Why the attempt is over, or None while it isn't (a success is not an end of this kind)."""
    if job.complete:
        return None
    causes = [cause for cause in map(_pod_cause, pods) if cause]
    if not causes and job.failed_pods:
        return _vanished(job, pods, nodes=nodes)
    return min(causes, key=_weight, default=None)


def culprit(pods: tuple[PodSeen, ...], *, lost_nodes: frozenset[str]) -> Cause | None:
    """Why an attempt that is already recorded as over really ended, as far as its pods now tell.

    Their deletion says nothing here: the operator itself deletes what is left of an attempt.
    """
    causes = [cause for pod in pods if (cause := _exit_cause(pod) or _lost_with_node(pod, lost_nodes))]
    return min(causes, key=_weight, default=None)


def _lost_with_node(pod: PodSeen, lost_nodes: frozenset[str]) -> Cause | None:
    if pod.node not in lost_nodes and _BY_DISRUPTION.get(pod.disruption) != Reason.NODE_LOST:
        return None
    return Cause(Reason.NODE_LOST, _SENTENCES[Reason.NODE_LOST](pod), pod.name, pod.node, infrastructure=True)


def _weight(cause: Cause) -> int:
    if cause.reason in _FOLLOWERS:
        return 2 + _FOLLOWERS.index(cause.reason)
    return 1 if cause.infrastructure else 0


def _pod_cause(pod: PodSeen) -> Cause | None:
    own = _exit_cause(pod)
    done_to_it = _disruption_cause(pod)
    if own and done_to_it:
        return own if own.reason in (Reason.OUT_OF_MEMORY,) else done_to_it
    return own or done_to_it


def _exit_cause(pod: PodSeen) -> Cause | None:
    if pod.exit_code == 0 or (pod.exit_code is None and pod.phase != "Failed"):
        return None
    reason = _exit_reason(pod)
    return Cause(
        reason=reason,
        message=_exit_message(pod, reason),
        pod=pod.name,
        node=pod.node,
        exit_code=pod.exit_code,
        infrastructure=reason in _INFRASTRUCTURE,
        step=_step(pod),
    )


def _exit_reason(pod: PodSeen) -> str:
    if pod.exit_reason == "OOMKilled":
        return Reason.OUT_OF_MEMORY
    if pod.exit_reason in ("StartError", "ContainerCannotRun"):
        return Reason.START_ERROR
    if pod.report:
        return pod.report.reason
    try:
        return _BY_CODE[ExitCode(pod.exit_code or 0)]
    except (KeyError, ValueError):
        return Reason.EXITED


def _exit_message(pod: PodSeen, reason: str) -> str:
    if pod.exit_reason == "OOMKilled":
        return (
            f"pod {pod.name} used more memory than its limit and was killed (OOMKilled, exit code {pod.exit_code}): "
            "raise resources.memory, or lower batch.micro"
        )
    if pod.report and pod.report.message:
        return pod.report.message
    if reason == Reason.KILLED:
        return (
            f"pod {pod.name} on {pod.node} was killed (SIGKILL, exit code {pod.exit_code}), and not for its own memory "
            f"limit: `kubectl describe node {pod.node}` tells whether the node ran out of memory"
        )
    said = f": {last}" if (last := _last_line(pod)) else ""
    return f"pod {pod.name} on {pod.node or 'no node'} ended with exit code {pod.exit_code} ({reason}){said}"


def _last_line(pod: PodSeen) -> str:
    """The end of its log, where it left no words: of our own JSON lines the message."""
    lines = pod.words.strip().splitlines()
    if not lines or pod.report:
        return ""
    try:
        return str(json.loads(lines[-1])["message"])[:300]
    except (ValueError, TypeError, KeyError):
        return lines[-1][:300]


def _disruption_cause(pod: PodSeen) -> Cause | None:
    if not pod.deleting and pod.disruption not in _BY_DISRUPTION:
        return None
    reason = _BY_DISRUPTION.get(pod.disruption, Reason.POD_DELETED)
    return Cause(
        reason, _SENTENCES[reason](pod), pod.name, pod.node, pod.exit_code, infrastructure=True, step=_step(pod)
    )


def _step(pod: PodSeen) -> int | None:
    return pod.report.step if pod.report else None


def _vanished(job: JobSeen, pods: tuple[PodSeen, ...], *, nodes: int) -> Cause:
    there = {pod.index for pod in pods}
    gone = [f"{job.name}-{index}" for index in range(nodes) if index not in there]
    which = f"pod {', '.join(gone[:3])} vanished" if gone else f"Job {job.name} failed: {job.failed_message}"
    return Cause(Reason.POD_DELETED, which, pod=gone[0] if gone else "", infrastructure=True)
