"""CLUSTER=current: a cluster that is there already, reached through the kubeconfig's current context.

It is never brought up or taken away. Its nodes pull from REGISTRY, where docker must be logged in.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.docker import Docker, UserRegistry
from e2e.cluster.errors import ClusterError, ToolMissing
from e2e.cluster.image_builder import ImageBuilder
from e2e.cluster.interface import Unsupported
from e2e.cluster.paths import Paths
from e2e.cluster.shell import run


@dataclass(frozen=True)
class CurrentCluster:
    paths: Paths
    registry: str = ""

    @property
    def kubeconfig(self) -> Path:
        return Path(os.environ.get("KUBECONFIG", Path.home() / ".kube" / "config"))

    def up(self) -> None:
        """Only looks whether it answers."""
        self._kubectl("get", "nodes")

    def down(self) -> None:
        """The cluster isn't ours to take away."""

    def status(self) -> str:
        return self._kubectl("get", "nodes", "-o", "wide")

    def images(self, *more: str) -> Mapping[str, str]:
        if not self.registry:
            raise ClusterError(
                "CLUSTER=current needs REGISTRY=<host>/<project>, where the cluster can pull images from."
            )
        if not shutil.which("docker"):
            raise ToolMissing("CLUSTER=current needs docker. Install it with: curl -fsSL https://get.docker.com | sh")
        references = ImageBuilder(self.paths, Docker(), UserRegistry(), self.registry).build_all(*more)
        self.paths.images_file.parent.mkdir(parents=True, exist_ok=True)
        self.paths.images_file.write_text(json.dumps(references, indent=2))
        return references

    def stop_node(self, name: str) -> None:
        raise Unsupported(f"{name} is not ours to stop. CLUSTER=native and CLUSTER=kind can lose a node.")

    def start_node(self, name: str) -> None:
        raise Unsupported(f"{name} is not ours to start. CLUSTER=native and CLUSTER=kind can lose a node.")

    def _kubectl(self, *arguments: str) -> str:
        return run("kubectl", "--kubeconfig", self.kubeconfig, *arguments)
