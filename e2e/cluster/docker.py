"""docker, where there is one: for kind, and for clusters that pull from a registry of the user's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from e2e.cluster.shell import run, succeeds


class Docker:
    def build(self, reference: str, *, dockerfile: Path, context: Path, arguments: Mapping[str, str]) -> None:
        words = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
        run("docker", "build", "--quiet", "--tag", reference, "--file", dockerfile, *words, context)

    def has(self, reference: str) -> bool:
        return succeeds("docker", "image", "inspect", reference)

    def python(self) -> str:
        return os.environ.get("BASE", "docker.io/library/python:3.11-slim-bookworm")


class UserRegistry:
    """A registry that the cluster pulls from, and that `docker push` is logged in to."""

    shares_layers = True

    def holds(self, reference: str) -> bool:
        return succeeds("docker", "manifest", "inspect", reference)

    def publish(self, reference: str) -> None:
        run("docker", "push", "--quiet", reference)
