"""Which fields of each resource are kept: what a reconcile reads, and nothing else."""

from lmforge_operator.kube.cache import Projection
from lmforge_operator.kube.resources import Manifest
from lmforge_operator.labels import COMPLETION_INDEX

__all__ = ["Projection", "claim", "custom_resource", "deployment", "job", "metadata", "only_metadata", "phase", "pod"]

METADATA = (
    "name",
    "namespace",
    "uid",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "finalizers",
    "labels",
    "annotations",
)
OWN_ANNOTATIONS = "lmforge.dev/"
CHILD_LABELS = (OWN_ANNOTATIONS, COMPLETION_INDEX)
POD_STATUS = ("phase", "reason", "message", "podIP", "startTime")
CONDITION = ("type", "status", "reason", "message", "lastTransitionTime")
CONTAINER_STATUSES = ("containerStatuses", "initContainerStatuses")
CONTAINER_STATUS = ("name", "ready", "restartCount", "state", "lastState", "image")
JOB_SPEC = ("suspend", "parallelism", "completions")
DEPLOYMENT_STATUS = ("availableReplicas",)


def metadata(manifest: Manifest) -> Manifest:
    """Essentials of metadata: no managedFields, and of the annotations only ours."""
    full = manifest["metadata"]
    kept = {name: full[name] for name in METADATA if name in full}
    annotations = kept.pop("annotations", None) or {}
    own = {name: value for name, value in annotations.items() if name.startswith(OWN_ANNOTATIONS)}
    return kept | ({"annotations": own} if own else {})


def _child(manifest: Manifest) -> Manifest:
    """The same, less the labels that others put on children: there are several of them for each of ours."""
    kept = metadata(manifest)
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
    """A Job's size and status."""
    return {
        "metadata": _child(manifest),
        "spec": _some(manifest.get("spec"), JOB_SPEC),
        "status": manifest.get("status") or {},
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


def pod(manifest: Manifest) -> Manifest:
    """Where a pod is, how its containers are, and why."""
    full = manifest.get("status") or {}
    status = _some(full, POD_STATUS)
    status["conditions"] = [_some(condition, CONDITION) for condition in full.get("conditions") or ()]
    for name in CONTAINER_STATUSES:
        if full.get(name):
            status[name] = [_some(container, CONTAINER_STATUS) for container in full[name]]
    return {
        "metadata": _child(manifest),
        "spec": _some(manifest.get("spec"), ("nodeName",)),
        "status": status,
    }


def claim(manifest: Manifest) -> Manifest:
    """Whether a PersistentVolumeClaim is bound."""
    kept = _some(manifest["metadata"], ("name", "namespace", "uid", "deletionTimestamp"))
    return {"metadata": kept, "status": _some(manifest.get("status"), ("phase",))}


def phase(manifest: Manifest) -> str:
    """What objects are counted by."""
    return (manifest.get("status") or {}).get("phase") or "Pending"


def _some(fields: Manifest | None, names: tuple[str, ...]) -> Manifest:
    return {name: fields[name] for name in names if name in fields} if fields else {}
