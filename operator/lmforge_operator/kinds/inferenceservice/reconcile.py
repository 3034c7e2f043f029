"""The story of an InferenceService.

Its model has to be there; then each revision of it is a set of engines, found by a router, behind a gateway
where one is wanted. The load decides how many replicas there are, and a new revision takes over from the old one,
replica by replica, or is rolled back.
"""

from lmforge_operator.engine.authority import authority
from lmforge_operator.engine.context import Context
from lmforge_operator.kinds.inferenceservice.desired import Desired
from lmforge_operator.kinds.inferenceservice.observe import Children, observe
from lmforge_operator.kube.resources import INFERENCE_SERVICES, Key
from lmforge_operator.manifests import Manifest
from lmforge_operator.serving.carry_out import carry_out
from lmforge_operator.serving.decide import decide


async def reconcile(context: Context, manifest: Manifest) -> float | None:
    """Bring one InferenceService a step further; gives the seconds after which to look again."""
    meta = manifest["metadata"]
    namespace, uid = meta["namespace"], meta["uid"]

    def lookup(kind: str, name: str) -> Manifest | None:
        return context.objects.get(Key(kind, namespace, name))

    service = observe(
        manifest,
        children=Children(
            deployments=context.deployments.owned_by(uid),
            groups=context.leader_worker_sets.owned_by(uid) if context.leader_worker_sets.installed else None,
            jobs=context.jobs.owned_by(uid),
            pods=context.pods.owned_by(uid),
            service=context.services.get(namespace, meta["name"]),
        ),
        lookup=lookup,
        has_claim=lambda claim: context.claims.get(namespace, claim) is not None,
        memory=context.memory,
        settings=context.settings,
        now=context.now(),
    )
    context.memory.adapters.want(uid, service.wanted_adapters)
    decision = decide(service.serving)
    desired = Desired(service, context.settings, reports_ca=authority(context.settings.reports.ca_path))
    return await carry_out(context, INFERENCE_SERVICES, manifest, service.serving, decision, desired)
