"""Builds LMForge's images and makes them available to nodes, each only when it has changed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from e2e.cluster import constraints, images
from e2e.cluster.images import Image
from e2e.cluster.paths import Paths
from e2e.cluster.shell import locked, step


class Engine(Protocol):
    """What builds images: buildah or docker."""

    def build(self, reference: str, *, dockerfile: Path, context: Path, arguments: Mapping[str, str]) -> None: ...

    def has(self, reference: str) -> bool:
        """Whether it was built here before."""

    def python(self) -> str:
        """A reference to Debian with Python, which all images are built upon."""


class Destination(Protocol):
    """Where nodes get images from."""

    def holds(self, reference: str) -> bool: ...

    def publish(self, reference: str) -> None: ...


@dataclass(frozen=True)
class ImageBuilder:
    """``registry`` is the first part of all references."""

    paths: Paths
    engine: Engine
    destination: Destination
    registry: str

    def build_all(self) -> Mapping[str, str]:
        """The references of the images that pods run, by name. Those that don't share layers are built side by side."""
        constraints.write(self.paths)
        with ThreadPoolExecutor() as pool:
            references = list(pool.map(self._publish, images.RUNNABLE))
        return {image.name: reference for image, reference in zip(images.RUNNABLE, references, strict=True)}

    def _publish(self, image: Image) -> str:
        reference = image.reference(self.registry)
        if not self.destination.holds(reference):
            self._build(image)
            with step(f"publishing image {image.name}"):
                self.destination.publish(reference)
        return reference

    def _build(self, image: Image) -> str:
        """Its reference, after it and its parents are built; a parent is built once for all that wait for it."""
        reference = image.reference(self.registry)
        with locked(self.paths.cache / f".building-{image.name}"):
            if not self.engine.has(reference):
                self._run_build(image, base=self._build(image.parent) if image.parent else self.engine.python())
        return reference

    def _run_build(self, image: Image, *, base: str) -> None:
        with step(f"building image {image.name}"), tempfile.TemporaryDirectory() as folder:
            context = Path(folder)
            image.fill_context(context)
            self.engine.build(
                image.reference(self.registry),
                dockerfile=context / image.dockerfile,
                context=context,
                arguments={"BASE": base},
            )
