"""All pods start together or none does: how an attempt says so to the schedulers that can do it.

The PodGroup is theirs (scheduler-plugins' coscheduling, or Volcano): it names how many pods are needed at once, and the
pods name the PodGroup.
"""

from lmforge_api.common import Scheduling
from lmforge_operator import labels
from lmforge_operator.manifests import Manifest

_API_VERSIONS = {"coscheduling": "scheduling.x-k8s.io/v1alpha1", "volcano": "scheduling.volcano.sh/v1beta1"}


def pod_group(scheduling: Scheduling, metadata: Manifest, *, nodes: int) -> Manifest | None:
    """The attempt's PodGroup, named like its Job; None where no gang is asked for."""
    if scheduling.gang == "none":
        return None
    spec: Manifest = {"minMember": nodes}
    if scheduling.gang == "volcano" and scheduling.priority_class_name:
        spec["priorityClassName"] = scheduling.priority_class_name
    return {"apiVersion": _API_VERSIONS[scheduling.gang], "kind": "PodGroup", "metadata": metadata, "spec": spec}


def pod_metadata(scheduling: Scheduling, group: str) -> Manifest:
    """What a pod carries to belong to its group: a label for coscheduling, an annotation for Volcano."""
    match scheduling.gang:
        case "coscheduling":
            return {"labels": {labels.COSCHEDULING_GROUP: group}}
        case "volcano":
            return {"annotations": {labels.VOLCANO_GROUP: group}}
    return {}
