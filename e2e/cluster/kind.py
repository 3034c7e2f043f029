"""CLUSTER=kind: the same on kind and docker."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from e2e.cluster.docker import Docker
from e2e.cluster.errors import ToolMissing
from e2e.cluster.image_builder import ImageBuilder
from e2e.cluster.paths import Paths
from e2e.cluster.shell import run, step, succeeds

NAME = "lmforge"
HINTS = {
    "docker": "curl -fsSL https://get.docker.com | sh",
    "kind": "go install sigs.k8s.io/kind@latest",
    "kubectl": "python -m e2e.cluster tools kubectl",
}


@dataclass(frozen=True)
class KindCluster:
    paths: Paths
    node_count: int = 2

    @property
    def kubeconfig(self) -> Path:
        return self.paths.kubeconfig

    def up(self) -> None:
        _require_tools()
        if NAME not in run("kind", "get", "clusters").split():
            with step("kind create cluster"):
                run(
                    "kind", "create", "cluster", "--name", NAME, "--wait", "180s", "--config", "-", stdin=self._config()
                )
        self.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        self.kubeconfig.write_text(run("kind", "get", "kubeconfig", "--name", NAME))

    def down(self) -> None:
        _require_tools()
        run("kind", "delete", "cluster", "--name", NAME)
        shutil.rmtree(self.paths.state, ignore_errors=True)

    def status(self) -> str:
        return run("kubectl", "--kubeconfig", self.kubeconfig, "get", "nodes,pods", "-A", "-o", "wide")

    def images(self, *more: str) -> Mapping[str, str]:
        _require_tools()
        references = ImageBuilder(self.paths, Docker(), KindNodes(), "localhost").build_all(*more)
        self.paths.images_file.write_text(json.dumps(references, indent=2))
        return references

    def stop_node(self, name: str) -> None:
        run("docker", "kill", name)

    def start_node(self, name: str) -> None:
        run("docker", "start", name)

    def _config(self) -> str:
        workers = [{"role": "worker"}] * self.node_count
        nodes = [{"role": "control-plane"}, *workers]
        return yaml.safe_dump({"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "nodes": nodes})


class KindNodes:
    """kind's nodes get images by copying."""

    shares_layers = False

    def holds(self, reference: str) -> bool:
        nodes = run("kind", "get", "nodes", "--name", NAME).split()
        return all(succeeds("docker", "exec", node, "crictl", "inspecti", reference) for node in nodes)

    def publish(self, reference: str) -> None:
        run("kind", "load", "docker-image", "--name", NAME, reference)


def _require_tools() -> None:
    for tool, command in HINTS.items():
        if not shutil.which(tool):
            raise ToolMissing(f"CLUSTER=kind needs {tool}. Install it with: {command}")
