"""What there is of a run: its Jobs and pods, what they have reported, and what it refers to."""

from lmforge_operator.engine.context import Context
from lmforge_operator.kube.resources import Key
from lmforge_operator.manifests import Manifest
from lmforge_operator.runs.nodes import lost_nodes
from lmforge_operator.runs.observed import Seen
from lmforge_operator.runs.queue import fresh_jobs, workloads


async def look(context: Context, manifest: Manifest) -> Seen:
    """Everything that a reconcile of this run reads, once."""
    meta = manifest["metadata"]
    namespace, pods = meta["namespace"], context.pods.owned_by(meta["uid"])
    jobs = await fresh_jobs(context, context.jobs.owned_by(meta["uid"]), pods)
    return Seen(
        now=context.now(),
        jobs=jobs,
        pods=pods,
        workloads=workloads(context, jobs),
        report=context.reports.latest(meta["uid"]),
        lookup=lambda kind, name: context.objects.get(Key(kind, namespace, name)),
        has_claim=lambda claim: context.claims.get(namespace, claim) is not None,
        lost_nodes=await lost_nodes(context, manifest, pods),
    )
