"""A pod as the API server tells of it, read once into a frozen dataclass. Everything after reads that."""

from dataclasses import dataclass
from datetime import datetime

from lmforge_operator.labels import FETCHER
from lmforge_operator.manifests import ReadManifest


@dataclass(frozen=True, kw_only=True)
class PodState:
    """One pod and its first container."""

    name: str
    node: str
    phase: str
    started: bool = False
    deleting: bool = False
    ready: bool = False
    disruption: str = ""
    unschedulable: str = ""
    waiting_reason: str = ""
    waiting_message: str = ""
    exit_code: int | None = None
    exit_reason: str = ""
    words: str = ""

    @property
    def ended(self) -> bool:
        """Whether its container is over (or never will run)."""
        return self.exit_code is not None or self.phase in ("Succeeded", "Failed")


def timestamp(text: str) -> datetime:
    """An RFC 3339 time as the API server writes it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def first_container(manifest: ReadManifest) -> ReadManifest:
    """The status of the pod's first container; of the one that brings its model to the node, until that has done it."""
    status = manifest.get("status") or {}
    fetcher = fetcher_of(manifest)
    if fetcher and fetched_at(manifest) is None:
        return fetcher
    return next(iter(status.get("containerStatuses") or ()), {})


def fetcher_of(manifest: ReadManifest) -> ReadManifest:
    """The status of the container that brings the model to the node; empty where there is none."""
    statuses = (manifest.get("status") or {}).get("initContainerStatuses") or ()
    return next((each for each in statuses if each["name"] == FETCHER), {})


def fetched_at(manifest: ReadManifest) -> datetime | None:
    """Since when the model is there; None where nobody brought it, or hasn't yet."""
    ended = (fetcher_of(manifest).get("state") or {}).get("terminated") or {}
    return timestamp(ended["finishedAt"]) if ended.get("exitCode") == 0 else None


def read_pod(manifest: ReadManifest) -> PodState:
    """A pod's manifest, projected or whole."""
    meta, status = manifest["metadata"], manifest.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    scheduled = conditions.get("PodScheduled") or {}
    disruption = conditions.get("DisruptionTarget") or {}
    state = first_container(manifest).get("state") or {}
    waiting, terminated = state.get("waiting") or {}, state.get("terminated") or {}
    return PodState(
        name=meta["name"],
        node=(manifest.get("spec") or {}).get("nodeName", ""),
        phase=status.get("phase", "Pending"),
        started="running" in state or bool(terminated),
        deleting="deletionTimestamp" in meta,
        ready=(conditions.get("Ready") or {}).get("status") == "True",
        disruption=disruption.get("reason", "") if disruption.get("status") == "True" else status.get("reason", ""),
        unschedulable=scheduled.get("message", "") if scheduled.get("status") == "False" else "",
        waiting_reason=waiting.get("reason", ""),
        waiting_message=waiting.get("message", ""),
        exit_code=terminated.get("exitCode"),
        exit_reason=terminated.get("reason", ""),
        words=terminated.get("message", ""),
    )
