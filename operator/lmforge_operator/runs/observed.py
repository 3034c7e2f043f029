"""What exists: a run's Jobs and pods, read once into frozen dataclasses. Everything after reads these."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from lmforge_api.run import ExitReport
from lmforge_operator.labels import ATTEMPT, COMPLETION_INDEX, TEMPLATE_HASH

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class PodSeen:
    """One pod of an attempt."""

    name: str
    attempt: int
    index: int
    node: str
    phase: str
    started: bool = False
    deleting: bool = False
    disruption: str = ""
    unschedulable: str = ""
    waiting_reason: str = ""
    waiting_message: str = ""
    exit_code: int | None = None
    exit_reason: str = ""
    words: str = ""
    report: ExitReport | None = None

    @property
    def ended(self) -> bool:
        """Whether its container is over (or never will run)."""
        return self.exit_code is not None or self.phase in ("Succeeded", "Failed")


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
    deleting: bool = False


def timestamp(text: str) -> datetime:
    """An RFC 3339 time as the API server writes it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def read_jobs(manifests: Iterable[Manifest]) -> dict[int, JobSeen]:
    """Jobs by attempt."""
    jobs = (_job(manifest) for manifest in manifests)
    return {job.attempt: job for job in jobs}


def read_pods(manifests: Iterable[Manifest]) -> tuple[PodSeen, ...]:
    """Pods of all attempts, in rank order."""
    return tuple(sorted(map(_pod, manifests), key=lambda pod: (pod.attempt, pod.index, pod.name)))


def _job(manifest: Manifest) -> JobSeen:
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
        suspended="Suspended" in conditions,
        deleting="deletionTimestamp" in meta,
    )


def _pod(manifest: Manifest) -> PodSeen:
    meta, status = manifest["metadata"], manifest.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    scheduled = conditions.get("PodScheduled") or {}
    disruption = conditions.get("DisruptionTarget") or {}
    container: Manifest = next(iter(status.get("containerStatuses") or ()), {})
    state = container.get("state") or {}
    waiting, terminated = state.get("waiting") or {}, state.get("terminated") or {}
    words = terminated.get("message", "")
    return PodSeen(
        name=meta["name"],
        attempt=int(meta["labels"].get(ATTEMPT, 0)),
        index=int(meta["labels"].get(COMPLETION_INDEX, 0)),
        node=(manifest.get("spec") or {}).get("nodeName", ""),
        phase=status.get("phase", "Pending"),
        started="running" in state or bool(terminated),
        deleting="deletionTimestamp" in meta,
        disruption=disruption.get("reason", "") if disruption.get("status") == "True" else status.get("reason", ""),
        unschedulable=scheduled.get("message", "") if scheduled.get("status") == "False" else "",
        waiting_reason=waiting.get("reason", ""),
        waiting_message=waiting.get("message", ""),
        exit_code=terminated.get("exitCode"),
        exit_reason=terminated.get("reason", ""),
        words=words,
        report=_exit_report(words),
    )


def _exit_report(words: str) -> ExitReport | None:
    """A pod's last words, when it is our workload that wrote them (else they are the log's last lines)."""
    try:
        return ExitReport.model_validate_json(words) if words.startswith("{") else None
    except ValidationError:
        return None
