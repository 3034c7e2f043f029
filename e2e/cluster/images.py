"""LMForge's images: what each is made of, and the tag that follows from it.

A tag is a hash of all that goes into the image, its parents' included. So a tag that the registry holds needs no work,
and a checkout elsewhere on this machine gets the same tags.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.errors import ClusterError
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

    def read(self, registry: str) -> Contents:
        """Everything that it's made of, as it is now: the tree may be edited while an image is built."""
        parent = self.parent.read(registry) if self.parent else None
        files = {str(file): (REPOSITORY / file).read_bytes() for file in self._files()}
        digest = hashlib.sha256((parent.reference if parent else "").encode())
        for name, content in files.items():
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
        return Contents(self, f"{registry}/lmforge/{self.name}:{digest.hexdigest()[:16]}", parent, files)

    def _files(self) -> Iterator[Path]:
        for source in sorted((self.dockerfile, *self.sources)):
            path = REPOSITORY / source
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file() and "__pycache__" not in file.parts:
                    yield file.relative_to(REPOSITORY)


@dataclass(frozen=True)
class Contents:
    """An image's files as they were at one moment, and the reference that follows from them."""

    image: Image
    reference: str
    parent: Contents | None
    files: Mapping[str, bytes]

    def ancestors(self) -> Iterator[Contents]:
        """What it's built upon, the nearest first."""
        if self.parent:
            yield self.parent
            yield from self.parent.ancestors()

    def fill_context(self, folder: Path) -> None:
        """Writes the files into an empty build context, all with the same time."""
        for name, content in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        for path in folder.rglob("*"):
            os.utime(path, (FIXED_TIME, FIXED_TIME))


def _workload(name: str, parent: Image, stage: str) -> Image:
    """An image that runs one stage of the workloads."""
    code = ("operator/lmforge_api", "workloads/lmforge_workloads/common", f"workloads/lmforge_workloads/{stage}")
    return Image(name, parent, (f"images/{name}/requirements.txt", *code))


BASE = Image("base", sources=("images/base/debootstrap.sh",))
TORCH = Image("torch", BASE, ("images/torch/constraints.txt",))
DEEPSPEED = Image("deepspeed", TORCH, ("images/deepspeed/requirements.txt",))
TRAIN = Image(
    "train",
    DEEPSPEED,
    ("images/train/requirements.txt", "operator/lmforge_api", "workloads/lmforge_workloads"),
)
FINETUNE = _workload("finetune", DEEPSPEED, "finetune")
OPERATOR = Image(
    "operator",
    BASE,
    ("images/operator/requirements.txt", "operator/lmforge_api", "operator/lmforge_operator"),
)
VLLM = Image("vllm", TORCH, ("images/vllm/requirements.txt", "images/vllm/logging.json"))
SERVE = _workload("serve", BASE, "serve")
LLAMACPP = Image("llamacpp", BASE, ("images/llamacpp/requirements.txt",))
ONNX = _workload("onnx", BASE, "serve")
SHARED = (TORCH, DEEPSPEED)
"""Large ones that others are built upon, each after its parent."""
RUNNABLE = (OPERATOR, TRAIN, FINETUNE, VLLM, SERVE)
ON_REQUEST = (LLAMACPP, ONNX)
"""Those that few need."""


def on_request(name: str) -> Image:
    """The image of that name."""
    for image in ON_REQUEST:
        if image.name == name:
            return image
    raise ClusterError(f"no image {name!r}; on request there are {', '.join(image.name for image in ON_REQUEST)}")
