"""What scenarios rely on: two real nodes, DNS, shared volumes, visible failures, and coming back after a crash."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence

import pytest
import yaml

from e2e.cluster import system_image
from e2e.cluster.native import NativeCluster
from e2e.cluster.shell import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
NON_ROOT = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}


def pod(
    cluster: NativeCluster,
    name: str,
    script: str,
    *,
    node: str = "",
    claim: str = "",
    memory: str = "64Mi",
) -> Mapping[str, object]:
    container: dict[str, object] = {
        "name": "main",
        "image": system_image.reference(),
        "command": ["sh", "-c", script],
        "resources": {"limits": {"memory": memory, "cpu": "250m"}},
    }
    spec: dict[str, object] = {
        "hostname": name,
        "subdomain": "peers",
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "securityContext": NON_ROOT,
        "containers": [container],
    }
    if node:
        spec["nodeSelector"] = {"kubernetes.io/hostname": node}
    if claim:
        spec["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]
        container["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "peers"}}, "spec": spec}


def headless_service() -> Mapping[str, object]:
    spec = {"clusterIP": "None", "selector": {"app": "peers"}, "publishNotReadyAddresses": True}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "peers"}, "spec": spec}


def claim(name: str, *, storage_class: str = "standard") -> Mapping[str, object]:
    resources = {"requests": {"storage": "10Mi"}}
    spec = {"accessModes": ["ReadWriteMany"], "storageClassName": storage_class, "resources": resources}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def apply(cluster: NativeCluster, namespace: str, objects: Sequence[Mapping[str, object]]) -> None:
    cluster.control_plane.kubectl("-n", namespace, "apply", "-f", "-", stdin=yaml.safe_dump_all(objects))


def wait_until(cluster: NativeCluster, namespace: str, condition: str, *names: str) -> None:
    cluster.control_plane.kubectl("-n", namespace, "wait", f"--for={condition}", *names, "--timeout=60s")


def log(cluster: NativeCluster, namespace: str, name: str) -> str:
    return cluster.control_plane.kubectl("-n", namespace, "logs", name)


def node_is_ready(cluster: NativeCluster, name: str) -> bool:
    node = json.loads(cluster.control_plane.kubectl("get", "node", name, "-o", "json"))
    return any(each["type"] == "Ready" and each["status"] == "True" for each in node["status"]["conditions"])


def wait_for_nodes(cluster: NativeCluster) -> None:
    for node in cluster.nodes:
        wait_for(lambda node=node: node_is_ready(cluster, node.name), what=f"{node.name} Ready", seconds=60)  # type: ignore[misc]


def test_it_has_two_ready_nodes(cluster: NativeCluster) -> None:
    wait_for_nodes(cluster)
    assert [node.name for node in cluster.nodes] == ["node-1", "node-2"]


def test_pods_on_two_nodes_find_each_other_by_name(cluster: NativeCluster, namespace: str) -> None:
    server = "mkdir /tmp/www; hostname > /tmp/www/name; httpd -f -p 9000 -h /tmp/www"
    ask = "until wget -q -O - http://server.peers:9000/name 2> /dev/null; do sleep 0.2; done"
    objects = [
        headless_service(),
        pod(cluster, "server", server, node="node-1"),
        pod(cluster, "client", ask, node="node-2"),
    ]
    apply(cluster, namespace, objects)
    wait_until(cluster, namespace, "jsonpath={.status.phase}=Succeeded", "pod/client")
    assert log(cluster, namespace, "client") == "server\n"


def test_pods_reach_the_api_server_by_its_service_name(cluster: NativeCluster, namespace: str) -> None:
    script = "nc -w 5 kubernetes.default.svc.cluster.local 443 < /dev/null && echo reached"
    apply(cluster, namespace, [pod(cluster, "client", script)])
    wait_until(cluster, namespace, "jsonpath={.status.phase}=Succeeded", "pod/client")
    assert log(cluster, namespace, "client") == "reached\n"


def test_a_volume_is_shared_by_non_root_pods_on_two_nodes(cluster: NativeCluster, namespace: str) -> None:
    reader = "until cat /data/file; do sleep 0.2; done"
    objects = [
        claim("shared"),
        pod(cluster, "writer", "echo written > /data/file", node="node-1", claim="shared"),
        pod(cluster, "reader", reader, node="node-2", claim="shared"),
    ]
    apply(cluster, namespace, objects)
    wait_until(cluster, namespace, "jsonpath={.status.phase}=Succeeded", "pod/reader")
    assert log(cluster, namespace, "reader").endswith("written\n")


def test_a_small_volume_runs_full(cluster: NativeCluster, namespace: str) -> None:
    script = "dd if=/dev/zero of=/data/file bs=1M count=100; rm /data/file"
    objects = [claim("small", storage_class="small"), pod(cluster, "writer", script, claim="small")]
    apply(cluster, namespace, objects)
    wait_until(cluster, namespace, "jsonpath={.status.phase}=Succeeded", "pod/writer")
    assert "No space left on device" in log(cluster, namespace, "writer")


def test_a_pod_that_takes_too_much_memory_shows_as_oom_killed(cluster: NativeCluster, namespace: str) -> None:
    apply(cluster, namespace, [pod(cluster, "greedy", "tail /dev/zero", memory="16Mi")])
    wait_until(cluster, namespace, "jsonpath={.status.phase}=Failed", "pod/greedy")
    status = json.loads(cluster.control_plane.kubectl("-n", namespace, "get", "pod", "greedy", "-o", "json"))["status"]
    ended = status["containerStatuses"][0]["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


def test_bringing_it_up_again_changes_nothing_and_is_quick(cluster: NativeCluster) -> None:
    before = {node.name: node.pids() for node in cluster.nodes}
    began = time.monotonic()
    cluster.up()
    assert time.monotonic() - began < 10  # about one second when nothing else runs
    assert {node.name: node.pids() for node in cluster.nodes} == before


def test_a_lost_node_shows_within_seconds_and_comes_back(cluster: NativeCluster, namespace: str) -> None:
    wait_for_nodes(cluster)
    apply(cluster, namespace, [pod(cluster, "victim", "sleep 1000", node="node-2")])
    wait_until(cluster, namespace, "condition=Ready", "pod/victim")
    try:
        cluster.stop_node("node-2")
        wait_for(lambda: not node_is_ready(cluster, "node-2"), what="node-2 NotReady", seconds=15)
        wait_until(cluster, namespace, "jsonpath={.metadata.deletionTimestamp}", "pod/victim")
    finally:
        cluster.start_node("node-2")
    wait_for(lambda: node_is_ready(cluster, "node-2"), what="node-2 Ready", seconds=30)
    wait_until(cluster, namespace, "delete", "pod/victim")


def test_it_comes_back_after_everything_was_killed(cluster: NativeCluster, namespace: str) -> None:
    apply(cluster, namespace, [claim("kept")])
    wait_until(cluster, namespace, "jsonpath={.status.phase}=Bound", "pvc/kept")
    cluster.kill()
    cluster.up()
    assert "Bound" in cluster.control_plane.kubectl("-n", namespace, "get", "pvc", "kept")
    wait_for_nodes(cluster)
    apply(cluster, namespace, [pod(cluster, "after", "true", claim="kept")])
    wait_until(cluster, namespace, "jsonpath={.status.phase}=Succeeded", "pod/after")
