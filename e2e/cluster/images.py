"""LMForge's images: what each is made of, and how one is built only when that has changed.

An image's tag is a hash of all that goes into it, its parents' included. So a tag that the registry holds needs no
work, and a checkout elsewhere on this machine gets the same tags.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.paths import REPOSITORY

FIXED_TIME = 1_700_000_000  # build caches look at modification times, and each checkout has others


@dataclass(frozen=True)
class Image:
    """``sources`` are the files and folders that its Dockerfile copies, relative to the repository."""

    name: str
    parent: Image | None = None
    sources: tuple[str, ...] = ()

    @property
    def dockerfile(self) -> str:
        return f"images/{self.name}/Dockerfile"

    def tag(self) -> str:
        digest = hashlib.sha256((self.parent.tag() if self.parent else "").encode())
        for file in self._files():
            digest.update(f"{file}\0".encode() + (REPOSITORY / file).read_bytes() + b"\0")
        return digest.hexdigest()[:16]

    def reference(self, registry: str) -> str:
        return f"{registry}/lmforge/{self.name}:{self.tag()}"

    def fill_context(self, folder: Path) -> None:
        """Copies the sources into an empty build context, all with the same time."""
        for file in self._files():
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / file, target)
        for path in folder.rglob("*"):
            os.utime(path, (FIXED_TIME, FIXED_TIME))

    def _files(self) -> Iterator[Path]:
        for source in sorted((self.dockerfile, *self.sources)):
            path = REPOSITORY / source
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file() and "__pycache__" not in file.parts:
                    yield file.relative_to(REPOSITORY)


BASE = Image("base", sources=("images/base/debootstrap.sh",))
TORCH = Image("torch", BASE, ("images/torch/constraints.txt",))
TRAIN = Image(
    "train",
    TORCH,
    ("images/train/requirements.txt", "operator/lmforge_api", "workloads/lmforge_workloads"),
)
OPERATOR = Image(
    "operator",
    BASE,
    ("images/operator/requirements.txt", "operator/lmforge_api", "operator/lmforge_operator"),
)
RUNNABLE = (OPERATOR, TRAIN)
