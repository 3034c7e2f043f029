"""kill -9 of a container's first process, found through the containerd of its node."""

from __future__ import annotations

from e2e.cluster.native import NativeCluster
from e2e.lmforge import SYSTEM_NAMESPACE, Kube, Manifest

LEASE = "lease/lmforge-operator"
OPERATOR = "app.kubernetes.io/name=lmforge,app.kubernetes.io/component=operator"


def kill_container(cluster: NativeCluster, kube: Kube, pod: str) -> None:
    """SIGKILL, and nobody is told."""
    found = kube.get("pod", pod)
    node = next(node for node in cluster.nodes if node.name == found["spec"]["nodeName"])
    container = str(found["status"]["containerStatuses"][0]["containerID"]).removeprefix("containerd://")
    node.ctr("tasks", "kill", "--signal", "SIGKILL", container)


def leader(kube: Kube) -> str | None:
    """The operator pod that holds the lease."""
    holder = kube.within(SYSTEM_NAMESPACE).get(LEASE)["spec"].get("holderIdentity") or ""
    return holder.split("_")[0] or None


def operators(kube: Kube) -> list[Manifest]:
    """The operator's pods that aren't being deleted."""
    pods = kube.within(SYSTEM_NAMESPACE).items("pods", "-l", OPERATOR)
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
