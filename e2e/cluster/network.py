"""The cluster's network: a bridge on this machine, and a network namespace for each node.

    machine 10.211.0.1 ── bridge lmforge0 ──┬── node-1: 10.211.0.11, pods 10.211.1.0/24
                                            └── node-2: 10.211.0.12, pods 10.211.2.0/24

Everyone has a route to every pod, so that pods, nodes and this machine's own processes reach each other unmasked.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.shell import run, succeeds

BRIDGE = "lmforge0"
HOST = "10.211.0.1"
CLUSTER_CIDR = "10.211.0.0/16"
SERVICE_CIDR = "10.212.0.0/16"
API_SERVICE = "10.212.0.1"
DNS_SERVICE = "10.212.0.10"
NAMESPACES = Path("/run/netns")
MARK = ("-m", "comment", "--comment", "lmforge")

# What leaves the cluster is masked; what crosses the bridge passes, whatever policy container engines have set.
RULES = (
    ("nat", "POSTROUTING", "-s", CLUSTER_CIDR, "!", "-d", CLUSTER_CIDR, *MARK, "-j", "MASQUERADE"),
    ("filter", "FORWARD", "-i", BRIDGE, *MARK, "-j", "ACCEPT"),
    ("filter", "FORWARD", "-o", BRIDGE, *MARK, "-j", "ACCEPT"),
)


@dataclass(frozen=True)
class NodeNetwork:
    """The addresses and interfaces of node number ``index``, counted from 1."""

    index: int

    @property
    def address(self) -> str:
        return f"10.211.0.{10 + self.index}"

    @property
    def pod_cidr(self) -> str:
        return f"10.211.{self.index}.0/24"

    @property
    def namespace(self) -> str:
        return f"lmforge-node-{self.index}"

    @property
    def namespace_file(self) -> Path:
        return NAMESPACES / self.namespace

    @property
    def host_end(self) -> str:
        return f"lmforge-n{self.index}"

    def create(self, *, nodes: int) -> None:
        """Makes the namespace, its link to the bridge, and the routes to the pods of the other ``nodes``."""
        self.remove()
        run("ip", "netns", "add", self.namespace)
        run("ip", "link", "add", self.host_end, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        run("ip", "link", "set", self.host_end, "master", BRIDGE, "up")
        self._inside("address", "add", f"{self.address}/24", "dev", "eth0")
        self._inside("link", "set", "lo", "up")
        self._inside("link", "set", "eth0", "up")
        self._inside("route", "add", "default", "via", HOST)
        for other in (NodeNetwork(index) for index in range(1, nodes + 1) if index != self.index):
            self._inside("route", "add", other.pod_cidr, "via", other.address)
        run("ip", "route", "replace", self.pod_cidr, "via", self.address, "dev", BRIDGE)
        run("nsenter", f"--net={self.namespace_file}", "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")

    def unplug(self) -> None:
        """Takes the cable out: peers see silence, as when a machine loses its power, and no closed connections."""
        run("ip", "link", "set", self.host_end, "down", check=False)

    def remove(self) -> None:
        run("ip", "link", "delete", self.host_end, check=False)
        run("ip", "netns", "delete", self.namespace, check=False)

    def _inside(self, *arguments: str) -> None:
        run("ip", "-n", self.namespace, *arguments)


def create_bridge() -> None:
    if not Path(f"/sys/class/net/{BRIDGE}").exists():
        run("ip", "link", "add", BRIDGE, "type", "bridge")
    run("ip", "address", "replace", f"{HOST}/24", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")
    run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
    for table, *rule in RULES:
        if not succeeds("iptables", "-w", "-t", table, "-C", *rule):
            run("iptables", "-w", "-t", table, "-I", *rule)


def remove_bridge() -> None:
    for table, *rule in RULES:
        while succeeds("iptables", "-w", "-t", table, "-D", *rule):
            pass
    run("ip", "link", "delete", BRIDGE, check=False)
