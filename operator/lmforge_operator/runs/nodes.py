"""Which nodes of a run don't answer. Asked only when peers were lost and no pod says why."""

from lmforge_operator.engine.context import Context
from lmforge_operator.kube.resources import NODES
from lmforge_operator.labels import Reason
from lmforge_operator.manifests import Manifest


async def lost_nodes(context: Context, manifest: Manifest, pods: list[Manifest]) -> frozenset[str]:
    """Names of the unexplained pods' nodes whose Ready condition isn't True."""
    attempts = (manifest.get("status") or {}).get("attempts") or ()
    if not any(attempt.get("reason") == Reason.PEER_LOST for attempt in attempts):
        return frozenset()
    names = {pod.get("spec", {}).get("nodeName", "") for pod in pods} - {""}
    lost = [name for name in sorted(names) if _lost(await context.kube.get(NODES, None, name))]
    return frozenset(lost)


def _lost(node: Manifest | None) -> bool:
    if node is None:
        return True
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] != "True" for c in conditions)
