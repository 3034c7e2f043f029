"""What exists of a service: its revisions (a Deployment or LeaderWorkerSet and its pods each), and what stands before
them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from lmforge_api.inferenceservice import GroupEnds
from lmforge_operator.labels import ADAPTERS, REVISION, ROLE, TEMPLATE_HASH, Role
from lmforge_operator.manifests import ReadManifest
from lmforge_operator.pods.state import PodState, fetched_at, fetcher_of, first_container, read_pod, timestamp


@dataclass(frozen=True, kw_only=True)
class ReplicaSeen(PodState):
    """A pod that runs the engine."""

    revision: str
    created_at: datetime
    uid: str = ""
    fetches: bool = False
    """Its model is being brought to its node first, or can't be."""
    fetched_at: datetime | None = None
    address: str = ""
    takes_adapters: bool = False
    restarts: int = 0
    last_exit_code: int | None = None
    last_exit_reason: str = ""
    last_words: str = ""
    ended_at: datetime | None = None
    """When its container ended, for the last time before it was started anew."""

    @property
    def over(self) -> bool:
        """Whether it has ended for good: evicted, or out of resources. Its Deployment has made another."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def drains(self) -> bool:
        """Whether it finishes its requests before it goes."""
        return self.deleting and not self.over

    @property
    def serves(self) -> bool:
        """Whether the router sends it requests."""
        return self.ready and not self.deleting

    @property
    def loads(self) -> bool:
        """Whether it is still on its way."""
        return not (self.ready or self.deleting or self.over)


@dataclass(frozen=True)
class RevisionSeen:
    """A revision's Deployment or LeaderWorkerSet, and pods."""

    name: str
    replicas: int
    created_at: datetime
    refused: str = ""
    """Why no (more) pods can be made: a quota, an admission webhook."""
    pods: tuple[ReplicaSeen, ...] = ()
    """Those that take requests: one a replica."""
    followers: tuple[ReplicaSeen, ...] = ()
    """Replicas' pods on other nodes."""
    uid: str = ""
    nodes: int = 1
    """Pods of each replica. Several make it a LeaderWorkerSet."""
    ends: GroupEnds | None = None
    """Of replicas of several pods, as long as not all are ready."""

    @property
    def ready(self) -> int:
        return sum(pod.serves for pod in self.pods)

    @property
    def loading(self) -> int:
        return sum(pod.loads for pod in self.pods)

    @property
    def gone(self) -> bool:
        """Neither wanted nor at work."""
        return self.replicas == 0 and all(pod.over for pod in (*self.pods, *self.followers))


@dataclass(frozen=True)
class FrontSeen:
    """The Deployment of the router or of the gateway."""

    name: str
    uid: str
    hash: str
    available: int


def read_replicas(manifests: Iterable[ReadManifest], role: str = Role.ENGINE) -> tuple[ReplicaSeen, ...]:
    """The engines' pods among all pods of the service: those that take requests, or the other role's."""
    return tuple(_replica(pod) for pod in manifests if _role(pod) == role)


def read_revisions(
    manifests: Iterable[ReadManifest], replicas: Iterable[ReplicaSeen], followers: Iterable[ReplicaSeen] = ()
) -> dict[str, RevisionSeen]:
    """Revisions by name. Pods that outlive their Deployment belong to none."""
    pods, others = _by_revision(replicas), _by_revision(followers)
    seen = [_revision(each, pods, others) for each in manifests if _role(each) == Role.ENGINE and _lives(each)]
    return {revision.name: revision for revision in seen}


def _by_revision(replicas: Iterable[ReplicaSeen]) -> Mapping[str, list[ReplicaSeen]]:
    pods = defaultdict(list)
    for replica in replicas:
        pods[replica.revision].append(replica)
    return pods


def read_front(manifests: Iterable[ReadManifest], role: str) -> FrontSeen | None:
    """The Deployment of that role, if it is there."""
    found = next((each for each in manifests if _role(each) == role and _lives(each)), None)
    return _front(found) if found else None


def read_routers(manifests: Iterable[ReadManifest]) -> dict[str, FrontSeen]:
    """The routers that are for one revision, by its name."""
    found = (each for each in manifests if _role(each) == Role.REVISION_ROUTER and _lives(each))
    return {str(each["metadata"]["labels"][REVISION]): _front(each) for each in found}


def _front(manifest: ReadManifest) -> FrontSeen:
    meta, status = manifest["metadata"], manifest.get("status") or {}
    return FrontSeen(
        name=meta["name"],
        uid=meta["uid"],
        hash=meta["labels"].get(TEMPLATE_HASH, ""),
        available=int(status.get("availableReplicas") or 0),
    )


def _replica(manifest: ReadManifest) -> ReplicaSeen:
    meta, container = manifest["metadata"], first_container(manifest)
    ended = (container.get("lastState") or {}).get("terminated") or {}
    when = (ended or (container.get("state") or {}).get("terminated") or {}).get("finishedAt")
    return ReplicaSeen(
        **vars(read_pod(manifest)),
        revision=meta["labels"].get(REVISION, ""),
        created_at=timestamp(meta["creationTimestamp"]),
        uid=meta.get("uid", ""),
        fetches=bool(fetcher_of(manifest)) and fetched_at(manifest) is None,
        fetched_at=fetched_at(manifest),
        takes_adapters=ADAPTERS in meta["labels"],
        address=(manifest.get("status") or {}).get("podIP", ""),
        restarts=int(container.get("restartCount") or 0),
        last_exit_code=ended.get("exitCode"),
        last_exit_reason=ended.get("reason", ""),
        last_words=ended.get("message", ""),
        ended_at=timestamp(when) if when else None,
    )


def _revision(
    manifest: ReadManifest, pods: Mapping[str, list[ReplicaSeen]], followers: Mapping[str, list[ReplicaSeen]]
) -> RevisionSeen:
    meta, spec = manifest["metadata"], manifest.get("spec") or {}
    conditions = (manifest.get("status") or {}).get("conditions") or ()
    refusals = [c for c in conditions if c["type"] == "ReplicaFailure" and c["status"] == "True"]
    return RevisionSeen(
        name=meta["name"],
        replicas=int(spec.get("replicas") or 0),
        created_at=timestamp(meta["creationTimestamp"]),
        refused=refusals[0].get("message", "") if refusals else "",
        pods=tuple(pods.get(meta["name"], ())),
        followers=tuple(followers.get(meta["name"], ())),
        uid=meta["uid"],
        nodes=int((spec.get("leaderWorkerTemplate") or {}).get("size") or 1),
    )


def _role(manifest: ReadManifest) -> str:
    return str((manifest["metadata"].get("labels") or {}).get(ROLE, ""))


def _lives(manifest: ReadManifest) -> bool:
    return "deletionTimestamp" not in manifest["metadata"]
