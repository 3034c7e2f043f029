"""What keeps a revision's replicas from getting ready: an ordered chain of checks; the first finding is what the user
reads. And whether it is bad enough to give the revision up."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from lmforge_operator.labels import Reason
from lmforge_operator.pods import holdups
from lmforge_operator.pods.holdups import Finding, one_line
from lmforge_operator.serving.last_words import telling
from lmforge_operator.serving.observed import ReplicaSeen, RevisionSeen
from lmforge_operator.words import counted

UNMADE_SECONDS = 15.0
SETTLING = 5.0
"""Seconds in which a pod may lack a node: volumes are being bound, pods that drain still hold their memory."""
CRASHES = 3
"""Restarts after which a replica that was never ready won't get better by another one."""

_KILLED = 137
_OUT_OF_MEMORY = "OOMKilled"


@dataclass(frozen=True)
class Struggle:
    """A revision at a moment."""

    revision: RevisionSeen
    now: datetime
    deadline: float
    """Seconds that a replica may take to get ready."""

    @property
    def loading(self) -> tuple[ReplicaSeen, ...]:
        return tuple(pod for pod in (*self.revision.pods, *self.revision.followers) if pod.loads)

    @property
    def total(self) -> int:
        """Pods that there should be."""
        return self.revision.replicas * self.revision.nodes

    def age(self, pod: ReplicaSeen) -> float:
        """Seconds in which it could get ready: while its model is on its way to the node it can't."""
        since = self.now if pod.fetches and pod.started else pod.fetched_at or pod.created_at
        return (self.now - since).total_seconds()


def first_finding(struggle: Struggle) -> Finding | None:
    """The most telling reason why not all replicas are ready, or None when they are."""
    return next((found for check in _CHECKS if (found := check(struggle))), None)


def given_up(struggle: Struggle) -> Finding | None:
    """Why the revision should be rolled back: a replica overran the deadline, or ends again and again."""
    ends = struggle.revision.ends
    crashed = [pod for pod in struggle.loading if pod.restarts >= CRASHES and not pod.fetches]
    again = crashed or (ends is not None and ends.count >= CRASHES)
    late = [pod for pod in struggle.loading if struggle.age(pod) > struggle.deadline]
    if not (again or late or (_fruitless(struggle) and _revision_age(struggle) > struggle.deadline)):
        return None
    found = first_finding(struggle)
    return found if found and found.stuck else _late(struggle)


def _fruitless(struggle: Struggle) -> bool:
    """Whether the pods that are there can't tell since when: there are none, or they are made anew at each failure."""
    revision = struggle.revision
    if revision.nodes == 1:
        return bool(revision.refused and not revision.pods)
    return not revision.ready and not any(pod.fetches and pod.started for pod in struggle.loading)


def cannot_grow(struggle: Struggle) -> Finding | None:
    """Why more replicas would not help: those that are wanted can't be placed."""
    return _refused(struggle) or _unschedulable(struggle)


def _refused(struggle: Struggle) -> Finding | None:
    revision = struggle.revision
    if not revision.refused or len(revision.pods) >= revision.replicas:
        return None
    return Finding(
        Reason.QUOTA, f"the API server refuses pods: {one_line(revision.refused)}{_allowed(revision.refused)}"
    )


def _allowed(refusal: str) -> str:
    """What to do about Pod Security, which keeps pods from folders of the node."""
    if "violates PodSecurity" not in refusal or "hostPath" not in refusal:
        return ""
    return (
        ". cache.nodeLocal needs hostPath volumes, which this namespace's Pod Security level forbids: have the "
        "administrator label the namespace pod-security.kubernetes.io/enforce=privileged, or write cache.claim"
    )


def _unmade(struggle: Struggle) -> Finding | None:
    revision = struggle.revision
    if revision.nodes == 1 or revision.pods or not revision.replicas or _revision_age(struggle) < UNMADE_SECONDS:
        return None
    return Finding(
        Reason.UNMADE,
        f"LeaderWorkerSet {revision.name} has no pods yet: look at its events, and whether its controller runs",
    )


def _image(struggle: Struggle) -> Finding | None:
    return holdups.image_pull(struggle.loading, total=struggle.total)


def _config(struggle: Struggle) -> Finding | None:
    return holdups.container_config(struggle.loading)


def _fetch(struggle: Struggle) -> Finding | None:
    pod = next((pod for pod in struggle.loading if pod.fetches and _code(pod) is not None), None)
    if pod is None:
        return None
    told = f"pod {pod.name} can't bring the model to node {pod.node} ({_times(pod)})"
    return Finding(Reason.FETCH_FAILED, f"{told}: {one_line(pod.words or pod.last_words) or f'exit code {_code(pod)}'}")


def _memory(struggle: Struggle) -> Finding | None:
    end = next((end for end in _ends(struggle) if end.out_of_memory), None)
    if end is None:
        return None
    return Finding(
        Reason.OUT_OF_MEMORY,
        f"pod {end.pod} used more memory than its limit and was killed (OOMKilled, exit code {end.code}, "
        f"{end.times}): raise resources.memory, or lower engineArgs.kvCache or maxModelLen",
    )


def _crash(struggle: Struggle) -> Finding | None:
    end = next(_ends(struggle), None)
    if end is None:
        return None
    said = end.words or ("it was killed from outside" if end.code == _KILLED else "")
    told = f"pod {end.pod} ends with exit code {end.code} ({end.times})"
    return Finding(Reason.CRASHING, f"{told}: {said}" if said else told)


def _unschedulable(struggle: Struggle) -> Finding | None:
    pods = [pod for pod in struggle.loading if struggle.age(pod) >= SETTLING]
    return holdups.unschedulable(pods, total=struggle.total)


def _overdue(struggle: Struggle) -> Finding | None:
    return _late(struggle) if any(struggle.age(pod) > struggle.deadline for pod in struggle.loading) else None


def _loading(struggle: Struggle) -> Finding | None:
    revision = struggle.revision
    if revision.ready >= revision.replicas and not struggle.loading:
        return None
    fetching = [pod for pod in struggle.loading if pod.fetches and pod.started]
    if fetching:
        nodes, waits = sorted({pod.node for pod in fetching}), "waits" if len(fetching) == 1 else "wait"
        disks = f"the disk{'s' if len(nodes) > 1 else ''} of {', '.join(nodes)}"
        told = f"{counted(len(fetching), 'pod')} {waits} until the model has come to {disks}"
        said = f"{revision.ready} of {revision.replicas} replicas are ready; {told}"
        return Finding(Reason.FETCHING, said, stuck=False)
    started = sum(pod.started for pod in struggle.loading)
    what = "the model is being loaded" if started else "pods are being started"
    return Finding(Reason.LOADING, f"{revision.ready} of {revision.replicas} replicas are ready; {what}", stuck=False)


Check = Callable[[Struggle], Finding | None]
_CHECKS: tuple[Check, ...] = (
    _refused,
    _unmade,
    _image,
    _config,
    _fetch,
    _memory,
    _crash,
    _unschedulable,
    _overdue,
    _loading,
)


def _late(struggle: Struggle) -> Finding:
    return Finding(
        Reason.SLOW,
        f"its replicas were not ready within rollout.readyDeadlineSeconds ({struggle.deadline:.0f}): "
        "look at their logs, or raise it",
    )


def _revision_age(struggle: Struggle) -> float:
    return (struggle.now - struggle.revision.created_at).total_seconds()


@dataclass(frozen=True)
class _End:
    """An engine that ended before it was ready."""

    pod: str
    code: int
    times: str
    words: str
    out_of_memory: bool


def _ends(struggle: Struggle) -> Iterator[_End]:
    ends = struggle.revision.ends
    if ends:
        times = f"{counted(ends.count, 'time')}, all pods of its replica are made anew each time"
        yield _End(ends.pod, ends.exit_code, times, ends.words, ends.exit_reason == _OUT_OF_MEMORY)
        return
    for pod in struggle.loading:
        code = _code(pod)
        if code is not None and not pod.fetches:
            out_of_memory = _OUT_OF_MEMORY in (pod.exit_reason, pod.last_exit_reason)
            yield _End(pod.name, code, _times(pod), telling(pod.words or pod.last_words), out_of_memory)


def _code(pod: ReplicaSeen) -> int | None:
    return pod.exit_code if pod.exit_code is not None else pod.last_exit_code


def _times(pod: ReplicaSeen) -> str:
    return counted(pod.restarts + (pod.exit_code is not None), "time")
