"""What every kind of cluster offers to `make`, scenarios and benches: native, kind, or whichever is current."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from e2e.cluster.errors import ClusterError


class Unsupported(ClusterError):
    """This kind of cluster can't do it; the message says which kind can."""


class Cluster(Protocol):
    """A cluster that can be brought up, given images, and taken away. Every method may be called again."""

    @property
    def kubeconfig(self) -> Path: ...

    def up(self) -> None:
        """Returns when all nodes are Ready and names resolve."""

    def down(self) -> None: ...

    def status(self) -> str:
        """A few lines for people: what runs, and what doesn't."""

    def images(self, *more: str) -> Mapping[str, str]:
        """Builds what has changed, makes it available to the nodes, and returns the references by image name.

        `more`: names of images that are built on request only.
        """

    def stop_node(self, name: str) -> None:
        """The sudden loss of a node."""

    def start_node(self, name: str) -> None: ...
