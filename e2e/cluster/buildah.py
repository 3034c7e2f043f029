"""buildah, with its storage in the cache: builds images without a container engine."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.paths import REPOSITORY, Paths
from e2e.cluster.shell import run, step, succeeds

PYTHON = "docker.io/library/python:3.11-slim-bookworm"
MADE_PYTHON = "localhost/lmforge/debian-python:bookworm"
PULL_SECONDS = 20
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PACKAGES = "/package-cache"
COMPILED = "/compiler-cache"


@dataclass(frozen=True)
class Buildah:
    paths: Paths

    @property
    def storage(self) -> Path:
        return self.paths.cache / "buildah"

    def build(self, reference: str, *, dockerfile: Path, context: Path, arguments: Mapping[str, str]) -> None:
        packages = Path.home() / ".cache" / "uv"  # uv's own cache, so that nothing is downloaded twice
        packages.mkdir(parents=True, exist_ok=True)
        compiled = self.paths.cache / "ccache"
        compiled.mkdir(parents=True, exist_ok=True)
        volumes = [f"{packages}:{PACKAGES}", f"{compiled}:{COMPILED}"]
        if CERTIFICATES.exists():  # behind a proxy with an authority of its own only this machine's bundle works
            volumes.append(f"{CERTIFICATES}:{CERTIFICATES}:ro")
        every = {"UV_CACHE_DIR": PACKAGES, "CCACHE_DIR": COMPILED, **arguments}
        self._run(
            *("build", "--isolation", "chroot", "--layers", "--quiet", "--tag", reference, "--file", str(dockerfile)),
            *(word for name, value in every.items() for word in ("--build-arg", f"{name}={value}")),
            *(word for volume in volumes for word in ("--volume", volume)),
            str(context),
        )

    def has(self, reference: str) -> bool:
        return succeeds(*self._command("inspect", "--type", "image", reference))

    def python(self) -> str:
        """As BASE says, or from the public registry, or where that is out of reach made from Debian's packages."""
        if chosen := os.environ.get("BASE"):
            return chosen
        if self.has(MADE_PYTHON):
            return MADE_PYTHON
        with step(f"pulling {PYTHON}"):
            if succeeds("timeout", str(PULL_SECONDS), *self._command("pull", "--quiet", PYTHON)):
                return PYTHON
        with step("it is out of reach: making the same from Debian's packages"):
            archive = self.paths.cache / "debian-python.tar"
            run(REPOSITORY / "images" / "base" / "debootstrap.sh", archive)
            self._import_root(MADE_PYTHON, archive)
            archive.unlink()
        return MADE_PYTHON

    def push(self, reference: str) -> None:
        """With the least compression: over a local link, more of it would take longer than it saves."""
        least = ("--compression-format", "zstd", "--compression-level", "1")
        self._run("push", "--quiet", "--tls-verify=false", *least, reference, f"docker://{reference}")

    def _import_root(self, reference: str, archive: Path) -> None:
        """Makes an image of one layer from a tar file of a whole file system."""
        container = self._run("from", "scratch").strip()
        try:
            self._run("add", container, str(archive), "/")
            self._run("commit", "--quiet", container, reference)
        finally:
            self._run("rm", container)

    def _run(self, *arguments: str) -> str:
        return run("nice", *self._command(*arguments))

    def _command(self, *arguments: str) -> Sequence[str]:
        where = ("--root", str(self.storage), "--runroot", str(self.storage / "run"), "--storage-driver", "overlay")
        return ["buildah", *where, *arguments]
