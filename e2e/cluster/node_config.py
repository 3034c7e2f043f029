"""The configuration files of a node's agents, as pure functions of where they keep things."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import yaml

from e2e.cluster.network import CLUSTER_CIDR, DNS_SERVICE, NodeNetwork


@dataclass(frozen=True)
class NodeFiles:
    """Where a node keeps its things; all of it is below one folder and goes with it."""

    folder: Path

    @property
    def runtime_socket(self) -> Path:
        return self.folder / "containerd.sock"

    @property
    def images(self) -> Path:
        return self.folder / "images"

    @property
    def containers(self) -> Path:
        return self.folder / "containers"

    @property
    def kubelet(self) -> Path:
        return self.folder / "kubelet"

    @property
    def network_config(self) -> Path:
        return self.folder / "cni"

    @property
    def registries(self) -> Path:
        return self.folder / "registries"


def containerd(files: NodeFiles, *, sandbox_image: str) -> str:
    """containerd's TOML. Layers are dropped once unpacked: a workload image is several gigabytes."""
    return f"""\
version = 2
root = "{files.images}"
state = "{files.containers}"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]

[grpc]
address = "{files.runtime_socket}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{sandbox_image}"
# Lowering a process's OOM score below its parent's needs CAP_SYS_RESOURCE, which root in a container or VM may lack.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
discard_unpacked_layers = true

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
Root = "{files.folder}/runc"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{files.network_config}"

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{files.registries}"
"""


def registry_hosts(registry: str) -> str:
    """containerd's hosts.toml for the local registry, which speaks plain HTTP."""
    return f'server = "http://{registry}"\n[host."http://{registry}"]\ncapabilities = ["pull", "resolve"]\n'


def pod_network(files: NodeFiles, network: NodeNetwork) -> str:
    """CNI: a routed link to each pod, so that a Service's answers pass connection tracking also within a node."""
    addresses = {
        "type": "host-local",
        "dataDir": str(files.folder / "addresses"),
        "ranges": [[{"subnet": network.pod_cidr}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    plugins = [
        {"type": "ptp", "ipMasq": False, "ipam": addresses},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    return json.dumps({"cniVersion": "0.4.0", "name": network.namespace, "plugins": plugins}, indent=2)


def kubelet(files: NodeFiles, *, cgroup: str, authority: Path, resolv_conf: Path) -> str:
    """A quick lease (renewed every 2 s), so that a lost node shows within seconds."""
    return _yaml(
        "kubelet.config.k8s.io/v1beta1",
        "KubeletConfiguration",
        {
            "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": str(authority)}},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": cgroup,
            "clusterDNS": [DNS_SERVICE],
            "clusterDomain": "cluster.local",
            "containerRuntimeEndpoint": f"unix://{files.runtime_socket}",
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "eventRecordQPS": 0,
            "failCgroupV1": False,
            "failSwapOn": False,
            "imageGCHighThresholdPercent": 100,
            "nodeLeaseDurationSeconds": 8,
            "nodeStatusUpdateFrequency": "5s",
            "podLogsDir": str(files.folder / "logs"),
            "registryPullQPS": 0,
            "resolvConf": str(resolv_conf),
            "serializeImagePulls": False,
            "volumePluginDir": str(files.folder / "volume-plugins"),
        },
    )


def kube_proxy(*, node: str, kubeconfig: Path) -> str:
    """Connection tracking limits of 0 leave the machine's own in place; changing them isn't possible everywhere."""
    return _yaml(
        "kubeproxy.config.k8s.io/v1alpha1",
        "KubeProxyConfiguration",
        {
            "clientConnection": {"kubeconfig": str(kubeconfig)},
            "clusterCIDR": CLUSTER_CIDR,
            "conntrack": {
                "maxPerCore": 0,
                "min": 0,
                "tcpCloseWaitTimeout": "0s",
                "tcpEstablishedTimeout": "0s",
            },
            "hostnameOverride": node,
            "mode": "iptables",
        },
    )


def _yaml(version: str, kind: str, fields: dict[str, object]) -> str:
    return yaml.safe_dump({"apiVersion": version, "kind": kind, **fields}, sort_keys=False)
