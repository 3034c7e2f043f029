"""What Kueue says of a run's Jobs, and Jobs as they are now where the watch may be behind."""

from lmforge_operator.engine.context import Context
from lmforge_operator.kube import projections
from lmforge_operator.kube.resources import JOBS
from lmforge_operator.labels import ATTEMPT, KUEUE_QUEUE
from lmforge_operator.manifests import Manifest


def workloads(context: Context, jobs: list[Manifest]) -> list[Manifest] | None:
    """The Workloads of those Jobs that have a queue; None where Kueue isn't installed."""
    if not context.workloads.installed:
        return None
    uids = [job["metadata"]["uid"] for job in jobs if _has_queue(job)]
    return [each | {"job": uid} for uid in uids for each in context.workloads.owned_by(uid)]


async def fresh_jobs(context: Context, jobs: list[Manifest], pods: list[Manifest]) -> list[Manifest]:
    """A queue takes pods back by suspending their Job, and the watch may tell of the pods' end first.

    Then the end would look like a fault. So Jobs with a queue are read anew when pods of theirs go.
    """
    going = {pod["metadata"]["labels"].get(ATTEMPT) for pod in pods if _is_going(pod)}
    return [
        await _fresh(context, job) if _has_queue(job) and job["metadata"]["labels"][ATTEMPT] in going else job
        for job in jobs
    ]


async def _fresh(context: Context, job: Manifest) -> Manifest:
    meta = job["metadata"]
    if "spec" in job:  # known to be suspended
        return job
    now = await context.kube.get(JOBS, meta["namespace"], meta["name"])
    return projections.job(now) if now is not None and now["metadata"]["uid"] == meta["uid"] else job


def _has_queue(job: Manifest) -> bool:
    return KUEUE_QUEUE in job["metadata"]["labels"]


def _is_going(pod: Manifest) -> bool:
    status = pod.get("status") or {}
    return "deletionTimestamp" in pod["metadata"] or status.get("phase") == "Failed"
