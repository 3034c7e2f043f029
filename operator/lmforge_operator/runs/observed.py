"""What exists: a run's Jobs and pods, read once into frozen dataclasses. Everything after reads these."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from lmforge_api.run import ExitReport, ProgressReport
from lmforge_operator.inputs.references import Lookup
from lmforge_operator.labels import ATTEMPT, COMPLETION_INDEX, KUEUE_QUEUE, TEMPLATE_HASH
from lmforge_operator.manifests import ReadManifest
from lmforge_operator.pods.state import PodState, read_pod, timestamp
from lmforge_operator.runs.admission import Place, read_place


@dataclass(frozen=True, kw_only=True)
class PodSeen(PodState):
    """One pod of an attempt."""

    attempt: int
    index: int
    report: ExitReport | None = None


@dataclass(frozen=True)
class JobSeen:
    """One attempt's Job."""

    name: str
    attempt: int
    created_at: datetime
    template_hash: str = ""
    complete: bool = False
    failed_pods: int = 0
    failed_message: str = ""
    suspended: bool = False
    place: Place | None = None
    """In the queue that it has to pass, if it has to pass one."""
    deleting: bool = False


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Everything that there is of a run, as it was read."""

    now: datetime
    jobs: list[dict[str, Any]] = field(default_factory=list)
    pods: list[dict[str, Any]] = field(default_factory=list)
    workloads: list[dict[str, Any]] | None = None
    """Kueue's; None where it isn't installed."""
    report: tuple[ProgressReport, datetime] | None = None
    """The newest, and when it came."""
    lookup: Lookup
    has_claim: Callable[[str], bool]
    lost_nodes: frozenset[str] = frozenset()


def read_jobs(
    manifests: Iterable[ReadManifest], *, workloads: Iterable[ReadManifest] | None = None
) -> dict[int, JobSeen]:
    """Jobs by attempt, with what Kueue's Workloads say of them; no Workloads at all where Kueue isn't installed."""
    known = None if workloads is None else list(workloads)
    jobs = (_job(manifest, known) for manifest in manifests)
    return {job.attempt: job for job in jobs}


def read_pods(manifests: Iterable[ReadManifest]) -> tuple[PodSeen, ...]:
    """Pods of all attempts, in rank order."""
    return tuple(sorted(map(_pod, manifests), key=lambda pod: (pod.attempt, pod.index, pod.name)))


def _job(manifest: ReadManifest, workloads: list[ReadManifest] | None) -> JobSeen:
    meta, status = manifest["metadata"], manifest.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or () if c.get("status") == "True"}
    failed = conditions.get("Failed") or conditions.get("FailureTarget") or {}
    return JobSeen(
        name=meta["name"],
        attempt=int(meta["labels"][ATTEMPT]),
        created_at=timestamp(meta["creationTimestamp"]),
        template_hash=meta["labels"].get(TEMPLATE_HASH, ""),
        complete="Complete" in conditions,
        failed_pods=max(int(status.get("failed") or 0), 1 if failed else 0),
        failed_message=failed.get("message", ""),
        suspended=bool((manifest.get("spec") or {}).get("suspend")),
        place=_place(meta, workloads),
        deleting="deletionTimestamp" in meta,
    )


def _place(meta: ReadManifest, workloads: list[ReadManifest] | None) -> Place | None:
    queue = meta["labels"].get(KUEUE_QUEUE)
    if queue is None:
        return None
    return read_place(queue, workloads if workloads is None else [w for w in workloads if w["job"] == meta["uid"]])


def _pod(manifest: ReadManifest) -> PodSeen:
    state, labels = read_pod(manifest), manifest["metadata"]["labels"]
    return PodSeen(
        **vars(state),
        attempt=int(labels.get(ATTEMPT, 0)),
        index=int(labels.get(COMPLETION_INDEX, 0)),
        report=_exit_report(state.words),
    )


def _exit_report(words: str) -> ExitReport | None:
    """A pod's last words, when it is our workload that wrote them (else they are the log's last lines)."""
    try:
        return ExitReport.model_validate_json(words) if words.startswith("{") else None
    except ValidationError:
        return None
