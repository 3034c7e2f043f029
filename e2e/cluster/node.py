"""A real Kubernetes node: a network namespace with a kubelet, a containerd and a kube-proxy of its own.

`stop` is the loss of a machine: the cable goes out first, then everything on it ends at once. `start` is the machine
coming back with an empty disk; it also clears away whatever a crash has left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from e2e.cluster import mounts, node_config, traces
from e2e.cluster.cgroups import NodeGroup
from e2e.cluster.network import NodeNetwork
from e2e.cluster.paths import Paths
from e2e.cluster.pki import Authority
from e2e.cluster.process import Daemon
from e2e.cluster.shell import run, succeeds, wait_for

CONTAINER_NAMESPACE = "k8s.io"  # where Kubernetes' containers live in containerd


@dataclass(frozen=True)
class NodeSettings:
    """What all nodes of a cluster share."""

    paths: Paths
    authority: Authority
    server: str
    registry: str
    sandbox_image: str
    nodes: int
    labels: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True)
class Node:
    """Node number ``index``, counted from 1."""

    index: int
    settings: NodeSettings

    @property
    def name(self) -> str:
        return f"node-{self.index}"

    @property
    def files(self) -> node_config.NodeFiles:
        return node_config.NodeFiles(self.settings.paths.state / "nodes" / self.name)

    @property
    def network(self) -> NodeNetwork:
        return NodeNetwork(self.index)

    @property
    def group(self) -> NodeGroup:
        return NodeGroup(self.name)

    def start(self) -> None:
        """Comes up clean; returns when containerd answers. That the node is Ready is for the caller to await."""
        if self.running():
            return
        self.remove()
        self.group.create()
        self.network.create(nodes=self.settings.nodes)
        self._write_files()
        runtime, *others = self._agents()
        runtime.start()
        self._wait_for_runtime(runtime)
        for agent in others:
            agent.start()

    def stop(self) -> None:
        """The loss of the machine: no connection is closed in an orderly way, nothing is reported."""
        self.network.unplug()
        self.group.kill()

    def remove(self) -> None:
        """Ends it and takes away all that is left of it."""
        self.stop()
        traces.remove(self.files, network=self.network.namespace)
        mounts.remove(self.files.folder)
        self.network.remove()
        self.group.remove()

    def running(self) -> bool:
        return all(agent.running for agent in self._agents())

    def require_running(self) -> None:
        """StartError, with the end of its log, when an agent has ended."""
        for agent in self._agents():
            agent.require_running()

    def pids(self) -> Sequence[int | None]:
        """Of its agents: the same as long as it wasn't restarted."""
        return [agent.pid for agent in self._agents()]

    def kubelet_log(self) -> str:
        return self._agents()[1].log_tail()

    def pull(self, reference: str) -> None:
        """Fetches an image before a pod asks for it."""
        self.ctr("images", "pull", "--hosts-dir", self.files.registries, reference)

    def ctr(self, *arguments: str | Path) -> str:
        """containerd's own command line, on this node."""
        return run("ctr", "-a", self.files.runtime_socket, "-n", CONTAINER_NAMESPACE, *arguments)

    def exec(self, *argv: str) -> str:
        """Runs a program of this machine with the node's view of the network."""
        return run("nsenter", f"--net={self.network.namespace_file}", *argv)

    def _agents(self) -> Sequence[Daemon]:
        folder, programs = self.files.folder, self.settings.paths.bin
        kubelet = [
            str(programs / "kubelet"),
            f"--config={folder / 'kubelet.yaml'}",
            f"--kubeconfig={folder / 'kubelet.kubeconfig'}",
            f"--root-dir={self.files.kubelet}",
            f"--cert-dir={folder / 'kubelet-pki'}",
            f"--hostname-override={self.name}",
            f"--node-ip={self.network.address}",
            *([f"--node-labels={','.join(self.settings.labels)}"] if self.settings.labels else []),
        ]
        return [
            self._agent("containerd", ["containerd", "--config", str(folder / "containerd.toml")]),
            self._agent("kubelet", kubelet),
            self._agent("kube-proxy", [str(programs / "kube-proxy"), f"--config={folder / 'kube-proxy.yaml'}"]),
        ]

    def _agent(self, name: str, argv: Sequence[str]) -> Daemon:
        # `ip netns exec` would mount /sys anew, and with it lose the control groups.
        inside = ["nsenter", f"--net={self.network.namespace_file}", *argv]
        return Daemon(name, self.group.joining(inside), self.files.folder)

    def _write_files(self) -> None:
        folder, authority = self.files.folder, self.settings.authority
        folder.mkdir(parents=True, exist_ok=True)
        identity = authority.sign(self.name, user=f"system:node:{self.name}", groups=["system:nodes"])
        proxy = authority.sign("kube-proxy", user="system:kube-proxy")
        server = self.settings.server
        authority.kubeconfig(folder / "kubelet.kubeconfig", server=server, identity=identity)
        proxy_config = authority.kubeconfig(folder / "kube-proxy.kubeconfig", server=server, identity=proxy)
        resolv_conf = folder / "resolv.conf"
        contents = {
            "containerd.toml": node_config.containerd(self.files, sandbox_image=self.settings.sandbox_image),
            f"registries/{self.settings.registry}/hosts.toml": node_config.registry_hosts(self.settings.registry),
            "cni/10-lmforge.conflist": node_config.pod_network(self.files, self.network),
            "resolv.conf": "".join(f"nameserver {server}\n" for server in upstream_name_servers()),
            "kubelet.yaml": node_config.kubelet(
                self.files, cgroup=self.group.path, authority=authority.certificate, resolv_conf=resolv_conf
            ),
            "kube-proxy.yaml": node_config.kube_proxy(node=self.name, kubeconfig=proxy_config),
        }
        for name, content in contents.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)

    def _wait_for_runtime(self, runtime: Daemon) -> None:
        def answers() -> bool:
            runtime.require_running()
            return succeeds("ctr", "-a", self.files.runtime_socket, "version", timeout=5)

        wait_for(answers, what=f"containerd of {self.name}", seconds=30, details=runtime.log_tail, interval=0.05)


def upstream_name_servers() -> Sequence[str]:
    """This machine's name servers, without those on its loopback, which are out of reach for nodes and pods."""
    lines = Path("/etc/resolv.conf").read_text().splitlines()
    servers = [line.split()[1] for line in lines if line.startswith("nameserver ")]
    return [server for server in servers if not server.startswith("127.") and server != "::1"]
