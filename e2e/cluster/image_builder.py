"""Builds LMForge's images and makes them available to nodes, each only when it has changed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from e2e.cluster import constraints, images
from e2e.cluster.images import Contents
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

    @property
    def shares_layers(self) -> bool:
        """Whether layers that are there need not be sent again with another image."""

    def holds(self, reference: str) -> bool: ...

    def publish(self, reference: str) -> None: ...


@dataclass(frozen=True)
class ImageBuilder:
    """``registry`` is the first part of all references."""

    paths: Paths
    engine: Engine
    destination: Destination
    registry: str

    def build_all(self, *more: str) -> Mapping[str, str]:
        """The references of the images that pods run, by name; work that can is done side by side."""
        constraints.write(self.paths)
        runnable = [image.read(self.registry) for image in (*images.RUNNABLE, *map(images.on_request, more))]
        shared = images.SHARED if self.destination.shares_layers else ()
        sending: dict[str, Future[None]] = {}
        with ThreadPoolExecutor() as pool:
            for contents in [image.read(self.registry) for image in shared]:
                sending[contents.reference] = pool.submit(self._publish, contents, sending)
            list(pool.map(lambda contents: self._publish(contents, sending), runnable))
        return {contents.image.name: contents.reference for contents in runnable}

    def _publish(self, contents: Contents, sending: Mapping[str, Future[None]]) -> None:
        """``sending``: what is sent already, by reference, and needs not be sent again with what is built upon it."""
        if not self.destination.holds(contents.reference):
            self._build(contents)
            wait([sending[each.reference] for each in contents.ancestors() if each.reference in sending])
            with step(f"publishing image {contents.image.name}"):
                self.destination.publish(contents.reference)

    def _build(self, contents: Contents) -> str:
        """Its reference, after it and its parents are built; a parent is built once for all that wait for it."""
        with locked(self.paths.cache / f".building-{contents.image.name}"):
            if not self.engine.has(contents.reference):
                base = self._build(contents.parent) if contents.parent else self.engine.python()
                self._run_build(contents, base=base)
        return contents.reference

    def _run_build(self, contents: Contents, *, base: str) -> None:
        with step(f"building image {contents.image.name}"), tempfile.TemporaryDirectory() as folder:
            context = Path(folder)
            contents.fill_context(context)
            self.engine.build(
                contents.reference,
                dockerfile=context / contents.image.dockerfile,
                context=context,
                arguments={"BASE": base},
            )
