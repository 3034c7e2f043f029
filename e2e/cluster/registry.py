"""An image registry on the bridge, which nodes pull from; its data stays in the cache."""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import yaml

from e2e.cluster.buildah import Buildah
from e2e.cluster.network import HOST
from e2e.cluster.paths import Paths
from e2e.cluster.process import Daemon
from e2e.cluster.shell import wait_for

PORT = 5555  # 5000 is often taken: by another registry, or by what Debian's package starts
REGISTRY = f"{HOST}:{PORT}"


@dataclass(frozen=True)
class Registry:
    paths: Paths
    shares_layers: bool = True

    @property
    def _daemon(self) -> Daemon:
        config = self._folder / "config.yml"
        return Daemon("registry", ["docker-registry", "serve", str(config)], self._folder)

    @property
    def _folder(self) -> Path:
        return self.paths.state / "registry"

    def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        storage = {"filesystem": {"rootdirectory": str(self.paths.cache / "registry")}, "delete": {"enabled": True}}
        config = {"version": 0.1, "log": {"level": "warn"}, "storage": storage, "http": {"addr": REGISTRY}}
        (self._folder / "config.yml").write_text(yaml.safe_dump(config))
        daemon = self._daemon
        daemon.start()

        def answers() -> bool:
            daemon.require_running()
            return exists(f"http://{REGISTRY}/v2/")

        wait_for(answers, what="the image registry", seconds=20, details=daemon.log_tail, interval=0.05)

    def stop(self) -> None:
        self._daemon.stop()

    def kill(self) -> None:
        self._daemon.kill()

    def running(self) -> bool:
        return self._daemon.running

    def publish(self, reference: str) -> None:
        Buildah(self.paths).push(reference)

    def holds(self, reference: str) -> bool:
        """Whether ``<registry>/<name>:<tag>`` is there."""
        name, _, tag = reference.removeprefix(f"{REGISTRY}/").rpartition(":")
        return exists(f"http://{REGISTRY}/v2/{name}/manifests/{tag}")


def exists(url: str) -> bool:
    accepted = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
    request = urllib.request.Request(url, method="HEAD", headers={"Accept": accepted})
    try:
        with urllib.request.urlopen(request, timeout=10):
            return True
    except (urllib.error.URLError, OSError):
        return False
