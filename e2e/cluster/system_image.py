"""The one image that the native cluster needs before any of ours is built: static programs and nothing else."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

from e2e.cluster import binaries
from e2e.cluster.buildah import Buildah
from e2e.cluster.paths import REPOSITORY, Paths
from e2e.cluster.registry import REGISTRY, Registry
from e2e.cluster.shell import step

DOCKERFILE = REPOSITORY / "images" / "system" / "Dockerfile"
PROGRAMS = ("coredns", "local-path-provisioner")
APPLETS = ("sh", "ash", "cat", "chmod", "dd", "echo", "env", "id", "ls", "mkdir", "nc", "nslookup", "rm", "sleep")
MORE_APPLETS = ("tail", "test", "touch", "true", "wget", "head", "hostname", "httpd", "kill", "ps", "yes")


def reference() -> str:
    """Known before its programs are compiled: a node's settings name it."""
    return f"{REGISTRY}/lmforge/system:{_tag()}"


def ensure(paths: Paths, registry: Registry) -> str:
    """Builds and pushes it unless the registry has it; returns its reference."""
    image = reference()
    if registry.holds(image):
        return image
    with step("building the cluster's own image"), tempfile.TemporaryDirectory() as folder:
        _fill(Path(folder) / "bin", paths)
        (Path(folder) / "tmp").mkdir()
        (Path(folder) / "tmp").chmod(0o1777)
        buildah = Buildah(paths)
        buildah.build(image, dockerfile=DOCKERFILE, context=Path(folder), arguments={})
        buildah.push(image)
    return image


def _fill(folder: Path, paths: Paths) -> None:
    folder.mkdir()
    shutil.copy2(_busybox(), folder / "busybox")
    for applet in (*APPLETS, *MORE_APPLETS):
        (folder / applet).symlink_to("busybox")
    for program in PROGRAMS:
        shutil.copy2(paths.bin / program, folder / program)


def _tag() -> str:
    parts = [DOCKERFILE.read_bytes(), _busybox().read_bytes(), " ".join((*APPLETS, *MORE_APPLETS)).encode()]
    parts += [binaries.build_of(program).encode() for program in PROGRAMS]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _busybox() -> Path:
    path = shutil.which("busybox")
    assert path, "prerequisites.install() brings busybox"
    return Path(path)
