"""The native cluster: a real Kubernetes made of plain processes on this machine, without a container engine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import addons, binaries, layers, mounts, network, prerequisites, system_image
from e2e.cluster.buildah import Buildah
from e2e.cluster.cgroups import CONTROL_PLANE_WEIGHT, NodeGroup
from e2e.cluster.control_plane import API, SCHEDULING, ControlPlane, Settings
from e2e.cluster.errors import ClusterError, CommandFailed, StartError
from e2e.cluster.image_builder import ImageBuilder
from e2e.cluster.images import RUNNABLE
from e2e.cluster.node import Node, NodeSettings
from e2e.cluster.paths import Paths
from e2e.cluster.registry import REGISTRY, Registry
from e2e.cluster.shell import locked, say, step, succeeds, wait_for

API_PORT = 16443
CONTROL_PLANE_GROUP = NodeGroup("control-plane", weight=CONTROL_PLANE_WEIGHT)
NEEDED = (*API, *SCHEDULING, "kubectl", "kubelet", "kube-proxy", *system_image.PROGRAMS)


@dataclass(frozen=True)
class NativeCluster:
    paths: Paths
    node_count: int = 2

    @property
    def kubeconfig(self) -> Path:
        return self.paths.kubeconfig

    @property
    def control_plane(self) -> ControlPlane:
        settings = Settings(
            address=network.HOST,
            port=API_PORT,
            service_cidr=network.SERVICE_CIDR,
            service_hosts=(network.API_SERVICE, "kubernetes", "kubernetes.default.svc"),
        )
        folder = self.paths.state / "control-plane"
        return ControlPlane(
            folder,
            components=(*API, *SCHEDULING),
            settings=settings,
            paths=self.paths,
            survives=True,
            group=CONTROL_PLANE_GROUP,
        )

    @property
    def registry(self) -> Registry:
        return Registry(self.paths)

    @property
    def volumes(self) -> addons.Volumes:
        return addons.Volumes(self.paths.state / "volumes")

    @property
    def nodes(self) -> Sequence[Node]:
        settings = self._node_settings
        return [Node(index, settings) for index in range(1, self.node_count + 1)]

    @property
    def _node_settings(self) -> NodeSettings:
        control_plane = self.control_plane
        return NodeSettings(
            paths=self.paths,
            authority=control_plane.authority,
            server=control_plane.url,
            registry=REGISTRY,
            sandbox_image=system_image.reference(),
            nodes=self.node_count,
        )

    def up(self) -> None:
        prerequisites.install(self.paths)
        binaries.ensure(self.paths, *NEEDED)
        with self._alone():
            with step("network, volumes and image registry"):
                self._start_registry()
                self.volumes.create()
            image = system_image.ensure(self.paths, self.registry)
            with step("control plane"):
                self._start_control_plane()
            with step(f"{self.node_count} nodes"):
                with ThreadPoolExecutor() as pool:
                    list(pool.map(self._start, self.nodes))
                self._wait_for_nodes()
            with step("DNS and volumes"):
                addons.install(self.control_plane, system_image=image, volumes=self.volumes)
                self._wait_for_names()

    def down(self) -> None:
        with self._alone(), step("stopping the cluster"):
            for folder in (self.paths.state / "nodes").glob("node-*"):  # an earlier `up` may have started more
                self._node(folder.name).remove()
            self.control_plane.kill()  # nothing is gained by an orderly end: the data goes too
            CONTROL_PLANE_GROUP.remove()
            self.registry.stop()
            network.remove_bridge()
            mounts.remove(self.paths.state)

    def kill(self) -> None:
        """Ends everything at once, as when the machine stops: nothing is cleaned up."""
        for node in self.nodes:
            node.stop()
        self.control_plane.kill()
        self.registry.kill()

    def status(self) -> str:
        parts = {"registry": self.registry.running()}
        control_plane = self.control_plane
        parts |= {name: control_plane.daemon(name).running for name in control_plane.components}
        parts |= {node.name: node.running() for node in self.nodes}
        lines = [f"{name:26}{'running' if running else 'stopped'}" for name, running in parts.items()]
        if parts["kube-apiserver"]:
            lines.append(control_plane.kubectl("get", "nodes,pods", "-A", "-o", "wide"))
        return "\n".join(lines)

    def images(self, *more: str) -> Mapping[str, str]:
        """May run while `up` does: it needs the registry only, and serves those nodes that are there."""
        prerequisites.install(self.paths)
        self._start_registry()
        references = ImageBuilder(self.paths, Buildah(self.paths), self.registry, REGISTRY).build_all(*more)
        with step("giving the images to the nodes"), ThreadPoolExecutor() as pool:
            running = [node for node in self.nodes if node.running()]
            list(pool.map(lambda node: self._link_images(node, list(references.values())), running))
        self.paths.images_file.write_text(json.dumps(references, indent=2))
        return references

    def stop_node(self, name: str) -> None:
        with self._alone():
            self._node(name).stop()

    def start_node(self, name: str) -> None:
        with self._alone():
            self._start(self._node(name))

    def _alone(self) -> AbstractContextManager[None]:
        """A `down` must not take away what an `up` is making."""
        return locked(self.paths.cache / ".cluster.lock")

    def _start_registry(self) -> None:
        with locked(self.paths.cache / ".registry.lock"):
            network.create_bridge()
            self.registry.start()

    def _start(self, node: Node) -> None:
        """A node that comes up has what was built last, so that most of what it will be asked for is there."""
        node.start()
        storage = Buildah(self.paths).storage
        built = (layers.newest(storage, f"{REGISTRY}/lmforge/{image.name}") for image in RUNNABLE)
        self._link_images(node, [reference for reference in built if reference])

    def _link_images(self, node: Node, references: Sequence[str]) -> None:
        storage = Buildah(self.paths).storage
        with locked(self.paths.cache / f".{node.name}.lock"):
            try:
                for reference in references:
                    layers.link(node, layers.of_image(storage, reference))
            except CommandFailed as error:
                say(f"{node.name} will pull its images: they can't be linked ({error})")

    def _node(self, name: str) -> Node:
        number = name.removeprefix("node-")
        if not (name.startswith("node-") and number.isdigit()):
            raise ClusterError(f"no node {name!r}; there are {', '.join(node.name for node in self.nodes)}")
        return Node(int(number), self._node_settings)

    def _start_control_plane(self) -> None:
        control_plane = self.control_plane
        try:
            control_plane.start()
        except StartError as error:
            say(f"starting afresh, because what an earlier run has left is unusable: {error}")
            control_plane.kill()
            control_plane.forget()
            control_plane.start()
        if not self.kubeconfig.exists():
            self.kubeconfig.symlink_to(control_plane.kubeconfig)

    def _wait_for_nodes(self) -> None:
        names = {node.name for node in self.nodes}

        def ready() -> bool:
            for node in self.nodes:
                node.require_running()
            path = '{range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status} {end}'
            try:
                states = self.control_plane.kubectl("get", "nodes", "-o", f"jsonpath={path}").split()
            except CommandFailed:
                return False
            return names <= {state.removesuffix("=True") for state in states if state.endswith("=True")}

        wait_for(ready, what="Ready nodes", seconds=90, details=self._agents_logs, interval=0.3)

    def _wait_for_names(self) -> None:
        """A question from each node: it takes DNS, its Service and the nodes' routes to answer it."""
        question = ("busybox", "nslookup", "kubernetes.default.svc.cluster.local", network.DNS_SERVICE)
        for node in self.nodes:

            def answered(node: Node = node) -> bool:
                node.require_running()
                return succeeds("nsenter", f"--net={node.network.namespace_file}", *question, timeout=10)

            wait_for(answered, what=f"an answer from DNS to {node.name}", seconds=90, interval=0.2)

    def _agents_logs(self) -> str:
        return "\n".join(f"{node.name}: {node.kubelet_log()}" for node in self.nodes)
