"""A Job's place in its queue, as Kueue tells of it in the Job's Workload. Read once; everything after reads this."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from lmforge_operator.labels import Reason
from lmforge_operator.manifests import ReadManifest
from lmforge_operator.pods.holdups import Finding, one_line
from lmforge_operator.pods.state import timestamp

_FORMER = "Previously: "


@dataclass(frozen=True)
class Place:
    """Where a Job stands."""

    queue: str
    kueue: bool = True
    """Whether the cluster knows Kueue."""
    workload: str = ""
    """Name of the Job's Workload; empty until Kueue has made it."""
    active: bool = True
    """False when somebody, or Kueue itself, took it out of the queue for good."""
    quota_since: datetime | None = None
    """When Kueue last gave it quota; None while it has none."""
    waits: str = ""
    """Why Kueue does not let it start."""
    taken_back: str = ""
    """Why Kueue ended it, if it ever did: one of Kueue's words, such as Preempted."""
    taken_back_message: str = ""
    queues_again: bool = True
    """False while Kueue holds it back after having ended it: its queue is stopped, or a pause isn't over."""

    @property
    def has_quota(self) -> bool:
        return self.quota_since is not None

    def was_let_go_after(self, moment: str) -> bool:
        """Whether Kueue has let it start anew since then."""
        return self.quota_since is not None and self.quota_since > timestamp(moment)


def read_place(queue: str, workloads: Iterable[ReadManifest] | None) -> Place:
    """From a Job's Workloads (there is one at most); None where Kueue isn't installed."""
    if workloads is None:
        return Place(queue, kueue=False)
    workload = next(iter(workloads), None)
    if workload is None:
        return Place(queue)
    conditions = {c["type"]: c for c in (workload.get("status") or {}).get("conditions") or ()}
    quota, evicted = conditions.get("QuotaReserved") or {}, conditions.get("Evicted") or {}
    why = one_line(evicted.get("message", "")).removeprefix(_FORMER)
    return Place(
        queue,
        workload=workload["metadata"]["name"],
        active=(workload.get("spec") or {}).get("active", True),
        quota_since=timestamp(quota["lastTransitionTime"]) if quota.get("status") == "True" else None,
        waits=one_line(quota.get("message", "")),
        taken_back=_word(evicted, why) if evicted else "",
        taken_back_message=why,
        queues_again=(conditions.get("Requeued") or {}).get("status") != "False",
    )


def _word(evicted: ReadManifest, why: str) -> str:
    """Kueue's reason; once it has let the Job start again, only the words of the former message are left."""
    if evicted["status"] == "True":
        return str(evicted["reason"])
    return "Preempted" if why.startswith("Preempted") else "Evicted"


def holdup(place: Place, job: str) -> Finding:
    """What a Job waits for that its queue hasn't let start."""
    queue = f"queue {place.queue}"
    if not place.kueue:
        return Finding(
            Reason.NOT_INSTALLED,
            f"{queue} (scheduling.queue) is for Kueue 0.15 or newer to keep, which is not installed here: install "
            "it, or take scheduling.queue out",
        )
    if not place.workload:
        return Finding(Reason.QUEUED, f"waits for Kueue to take Job {job} into {queue}", stuck=False)
    if not place.active:
        return Finding(Reason.QUEUED, _deactivated(place))
    if place.has_quota:
        return Finding(
            Reason.QUEUED, f"has quota in {queue}; starts when its admission checks have passed", stuck=False
        )
    if f"LocalQueue {place.queue} doesn't exist" in place.waits:
        return Finding(
            Reason.QUEUE_MISSING,
            f"LocalQueue {place.queue} doesn't exist in this namespace: `kubectl get localqueues` lists those that do; "
            "correct scheduling.queue, or create it",
        )
    why = f": {place.waits}" if place.waits else ""
    return Finding(Reason.QUEUED, f"waits for quota in {queue}{why}", stuck=False)


def withdrawal(place: Place) -> Finding:
    """Why a queue took back the pods that it had let start. No fault of theirs."""
    if not place.taken_back:
        return Finding(Reason.EVICTED, f"the Job was suspended while queue {place.queue} had admitted it")
    reason = Reason.PREEMPTED if place.taken_back == "Preempted" else Reason.EVICTED
    return Finding(reason, f"queue {place.queue} took the pods back ({place.taken_back}): {place.taken_back_message}")


def held_back(place: Place) -> str:
    """Why it can't even queue again, or nothing when it can."""
    if not place.active:
        return _deactivated(place)
    if place.taken_back and place.has_quota:  # only with giving back the quota does Kueue say what it does then
        return f"Kueue hasn't given the quota in queue {place.queue} back yet"
    return "" if place.queues_again else f"Kueue will put it into queue {place.queue} again when that is over"


def _deactivated(place: Place) -> str:
    return (
        f"Workload {place.workload} was taken out of queue {place.queue}; to let it queue again: "
        f'`kubectl patch workload {place.workload} --type merge -p \'{{"spec":{{"active":true}}}}\'`'
    )
