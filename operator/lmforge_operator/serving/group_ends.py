"""How often groups of pods have ended: LeaderWorkerSet makes all pods of a group anew when one of them ends, and with
them Kubernetes' own counts and last words go. So they are kept in status.

A group lives as long as its leader has the same UID: each life counts once, with the pod of it that ended first. The
count is over when all replicas are ready, or none is wanted. Pure.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from lmforge_api.inferenceservice import GroupEnds
from lmforge_operator.serving.last_words import telling
from lmforge_operator.serving.observed import ReplicaSeen, RevisionSeen


def with_ends(revision: RevisionSeen, former: Iterable[GroupEnds]) -> RevisionSeen:
    """The revision with the ends of its groups, of which status has the `former` ones."""
    settled = revision.nodes == 1 or not revision.replicas or revision.ready >= revision.replicas
    if settled:
        return revision
    before = next((each for each in former if each.revision == revision.name), GroupEnds(revision=revision.name))
    ends = _counted(revision, before)
    return replace(revision, ends=ends) if ends.count else revision


def _counted(revision: RevisionSeen, ends: GroupEnds) -> GroupEnds:
    lives = [leader.uid for leader in revision.pods if leader.uid in ends.lives]
    for leader in revision.pods:
        members = [
            pod for pod in (leader, *revision.followers) if pod.name == leader.name or _leader(pod) == leader.name
        ]
        first = min(filter(_ended, members), key=_when, default=None)
        if first is not None and leader.uid not in lives:
            lives.append(leader.uid)
            ends = _with(ends, first)
    return ends.model_copy(update={"lives": lives})


def _leader(follower: ReplicaSeen) -> str:
    return follower.name.rpartition("-")[0]


def _ended(pod: ReplicaSeen) -> bool:
    """By itself: a pod that is deleted ends too, and a model that can't be fetched may be there at the next try."""
    return not pod.fetches and (pod.restarts > 0 or (pod.exit_code is not None and not pod.deleting))


def _when(pod: ReplicaSeen) -> datetime:
    return pod.ended_at or pod.created_at


def _with(ends: GroupEnds, pod: ReplicaSeen) -> GroupEnds:
    again = pod.restarts > 0
    return ends.model_copy(
        update={
            "count": ends.count + 1,
            "pod": pod.name,
            "exit_code": (pod.last_exit_code if again else pod.exit_code) or 0,
            "exit_reason": pod.last_exit_reason if again else pod.exit_reason,
            "words": telling(pod.last_words if again else pod.words),
        }
    )
