"""Builds LMForge's images with buildah and pushes them to the local registry, each only when it has changed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from e2e.cluster import constraints, images
from e2e.cluster.buildah import Buildah
from e2e.cluster.images import Image
from e2e.cluster.paths import REPOSITORY, Paths
from e2e.cluster.registry import REGISTRY, Registry
from e2e.cluster.shell import run, step

PYTHON_BASE = "docker.io/library/python:3.11-slim-bookworm"
MADE_BASE = "localhost/lmforge/debian-python:bookworm"
PULL_SECONDS = 20
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True)
class ImageBuilder:
    paths: Paths
    registry: Registry
    _base_lock: Lock = field(default_factory=Lock)

    def build_all(self) -> Mapping[str, str]:
        """The references of the images that pods run, by name. Those that don't share layers are built side by side."""
        constraints.write(self.paths)
        with ThreadPoolExecutor() as pool:
            references = list(pool.map(self._publish, images.RUNNABLE))
        return {image.name: reference for image, reference in zip(images.RUNNABLE, references, strict=True)}

    def _publish(self, image: Image) -> str:
        reference = image.reference(REGISTRY)
        if not self.registry.holds(reference):
            self._build(image)
            with step(f"pushing image {image.name}"):
                self._buildah.push(reference)
        return reference

    def _build(self, image: Image) -> str:
        """Its reference in buildah's storage, built with its parents if it isn't there."""
        reference = image.reference(REGISTRY)
        if image.parent is None:
            with self._base_lock:
                if not self._buildah.has(reference):
                    self._run_build(image, base=self._python())
        elif not self._buildah.has(reference):
            self._run_build(image, base=self._build(image.parent))
        return reference

    def _run_build(self, image: Image, *, base: str) -> None:
        wheels = self.paths.cache.parent / "uv"  # uv's own cache, so that nothing is downloaded twice
        wheels.mkdir(parents=True, exist_ok=True)
        volumes = [f"{wheels}:/wheels-cache"]
        if CERTIFICATES.exists():  # behind a proxy with an authority of its own only this machine's bundle works
            volumes.append(f"{CERTIFICATES}:{CERTIFICATES}:ro")
        with step(f"building image {image.name}"), tempfile.TemporaryDirectory() as folder:
            image.fill_context(Path(folder))
            self._buildah.build(
                image.reference(REGISTRY),
                dockerfile=Path(folder) / image.dockerfile,
                context=Path(folder),
                arguments={"BASE": base, "UV_CACHE_DIR": "/wheels-cache"},
                volumes=volumes,
            )

    def _python(self) -> str:
        """Debian with Python: as BASE says, or from the public registry, or else made from Debian's packages."""
        if chosen := os.environ.get("BASE"):
            return chosen
        if self._buildah.has(MADE_BASE):
            return MADE_BASE
        with step(f"pulling {PYTHON_BASE}"):
            if self._buildah.pull(PYTHON_BASE, timeout=PULL_SECONDS):
                return PYTHON_BASE
        with step("out of reach: making the same from Debian's packages"):
            archive = self.paths.cache / "debian-python.tar"
            if not archive.exists():
                run(REPOSITORY / "images" / "base" / "debootstrap.sh", archive)
            self._buildah.import_root(MADE_BASE, archive)
            archive.unlink()
        return MADE_BASE

    @property
    def _buildah(self) -> Buildah:
        return Buildah(self.paths)
