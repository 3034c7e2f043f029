"""Python packages that are wanted for the files in them, and not to be imported."""

from __future__ import annotations

import shutil
from pathlib import Path

from e2e.cluster.paths import Paths
from e2e.cluster.shell import run


def unpack(paths: Paths, requirement: str, target: Path) -> None:
    """Puts a package into a directory of its own, without what it depends on: that would be compiled for nothing."""
    shutil.rmtree(target, ignore_errors=True)
    run(paths.cache / "uv" / "bin" / "uv", "pip", "install", "--quiet", "--no-deps", "--target", target, requirement)
