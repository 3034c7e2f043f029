"""Which fields of each resource are kept: what a reconcile reads, and nothing else."""

from lmforge_operator.kube.cache import Projection
from lmforge_operator.labels import COMPLETION_INDEX, FETCHER, KUEUE_QUEUE
from lmforge_operator.manifests import Manifest

__all__ = [
    "Projection",
    "claim",
    "custom_resource",
    "deployment",
    "job",
    "leader_worker_set",
    "metadata",
    "only_metadata",
    "phase",
    "pod",
    "workload",
]

METADATA = (
    "name",
    "namespace",
    "uid",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "labels",
    "annotations",
)
CHILD_METADATA = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "labels")
OWN_ANNOTATIONS = "lmforge.dev/"
CHILD_LABELS = (OWN_ANNOTATIONS, COMPLETION_INDEX, KUEUE_QUEUE)
POD_STATUS = ("phase", "reason", "podIP")
POD_CONDITIONS = ("PodScheduled", "Ready", "DisruptionTarget")
CONDITION = ("type", "status", "reason", "message")
CONTAINER_STATUS = ("state", "lastState", "restartCount")
DEPLOYMENT_STATUS = ("availableReplicas",)
WORKLOAD_CONDITIONS = ("QuotaReserved", "Evicted", "Requeued")


def metadata(manifest: Manifest) -> Manifest:
    """Essentials of metadata: no managedFields, and of the annotations only ours."""
    full = manifest["metadata"]
    kept = {name: full[name] for name in METADATA if name in full}
    annotations = kept.pop("annotations", None) or {}
    own = {name: value for name, value in annotations.items() if name.startswith(OWN_ANNOTATIONS)}
    return kept | ({"annotations": own} if own else {})


def _child(manifest: Manifest) -> Manifest:
    """Less of it, for there are several children to each of ours: not the labels that others put on them."""
    kept = _some(manifest["metadata"], CHILD_METADATA)
    labels = kept.get("labels") or {}
    return kept | {"labels": {name: value for name, value in labels.items() if name.startswith(CHILD_LABELS)}}


def only_metadata(manifest: Manifest) -> Manifest:
    """For children that nothing changes but us: Services, ConfigMaps."""
    return {"metadata": _child(manifest)}


def custom_resource(manifest: Manifest) -> Manifest:
    """All of spec and status."""
    kept = {name: manifest[name] for name in ("apiVersion", "kind", "spec", "status") if name in manifest}
    return kept | {"metadata": metadata(manifest)}


def job(manifest: Manifest) -> Manifest:
    """Whether and how a Job is over, or held. Its counts of pods change often and say nothing that the pods don't."""
    full = manifest.get("status") or {}
    status = _some(full, ("failed",)) | {"conditions": _conditions(full)}
    held = (manifest.get("spec") or {}).get("suspend")
    return {"metadata": _child(manifest), "status": status} | ({"spec": {"suspend": True}} if held else {})


def workload(manifest: Manifest) -> Manifest:
    """What Kueue says of a Job's place in its queue."""
    full = manifest["metadata"]
    jobs = [_some(each, ("kind", "name")) for each in full.get("ownerReferences") or () if each["kind"] == "Job"]
    all_of_them = (manifest.get("status") or {}).get("conditions") or ()
    fields = (*CONDITION, "lastTransitionTime")
    conditions = [_some(each, fields) for each in all_of_them if each["type"] in WORKLOAD_CONDITIONS]
    return {
        "metadata": _some(full, ("name", "namespace", "uid")) | {"ownerReferences": jobs},
        "spec": _some(manifest.get("spec"), ("active",)),
        "status": {"conditions": conditions},
    }


def deployment(manifest: Manifest) -> Manifest:
    """How many pods a Deployment should have, how many are of use, and why there can't be more."""
    full = manifest.get("status") or {}
    failures = [_some(each, CONDITION) for each in full.get("conditions") or () if each["type"] == "ReplicaFailure"]
    return {
        "metadata": _child(manifest),
        "spec": _some(manifest.get("spec"), ("replicas",)),
        "status": _some(full, DEPLOYMENT_STATUS) | ({"conditions": failures} if failures else {}),
    }


def leader_worker_set(manifest: Manifest) -> Manifest:
    """How many replicas a LeaderWorkerSet should have, and of how many pods each is. Its pods tell the rest."""
    full = manifest.get("spec") or {}
    group = _some(full.get("leaderWorkerTemplate"), ("size",))
    return {"metadata": _child(manifest), "spec": _some(full, ("replicas",)) | {"leaderWorkerTemplate": group}}


def pod(manifest: Manifest) -> Manifest:
    """Where a pod is, how its containers are, and why."""
    full = manifest.get("status") or {}
    status = _some(full, POD_STATUS) | {
        "conditions": [each for each in _conditions(full) if each["type"] in POD_CONDITIONS],
        "containerStatuses": [_said(each) for each in full.get("containerStatuses") or ()],
    }
    fetchers = [each for each in full.get("initContainerStatuses") or () if each["name"] == FETCHER]
    if fetchers:
        status["initContainerStatuses"] = [_said(each) | {"name": FETCHER} for each in fetchers]
    return {
        "metadata": _child(manifest),
        "spec": _some(manifest.get("spec"), ("nodeName",)),
        "status": status,
    }


def _said(container: Manifest) -> Manifest:
    return {name: value for name, value in _some(container, CONTAINER_STATUS).items() if value}


def _conditions(status: Manifest) -> list[Manifest]:
    return [_some(condition, CONDITION) for condition in status.get("conditions") or ()]


def claim(manifest: Manifest) -> Manifest:
    """Whether a PersistentVolumeClaim is bound."""
    kept = _some(manifest["metadata"], ("name", "namespace", "uid", "deletionTimestamp"))
    return {"metadata": kept, "status": _some(manifest.get("status"), ("phase",))}


def phase(manifest: Manifest) -> str:
    """What objects are counted by."""
    return (manifest.get("status") or {}).get("phase") or "Pending"


def _some(fields: Manifest | None, names: tuple[str, ...]) -> Manifest:
    return {name: fields[name] for name in names if name in fields} if fields else {}
