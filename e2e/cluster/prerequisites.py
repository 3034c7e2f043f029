"""The Debian packages that the native cluster needs, installed when they are missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from e2e.cluster.errors import ToolMissing
from e2e.cluster.paths import Paths
from e2e.cluster.shell import locked, run, step

# program -> the Debian package that brings it
DEBIAN: Mapping[str, str] = {
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
    "buildah": "buildah",
    "docker-registry": "docker-registry",
    "debootstrap": "debootstrap",
    "conntrack": "conntrack",
    "iptables": "iptables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "busybox": "busybox-static",
    "sysctl": "procps",
    "mkfs.ext4": "e2fsprogs",
}


def install(paths: Paths) -> None:
    """Installs what is missing, or says with which command to do it."""
    if os.geteuid() != 0:
        raise ToolMissing("The native cluster needs root. Run as root, or use CLUSTER=kind or CLUSTER=current.")
    with locked(paths.cache / ".packages.lock"):
        missing = sorted({package for program, package in DEBIAN.items() if not _present(program)})
        if missing:
            _install(missing)


def _install(packages: Sequence[str]) -> None:
    command = f"apt-get install -y --no-install-recommends {' '.join(packages)}"
    if not shutil.which("apt-get"):
        raise ToolMissing(f"Missing: {' '.join(packages)}. On Debian: {command}")
    with step(f"installing {' '.join(packages)}"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run("apt-get", "update", env=environment)
        run(*command.split(), env=environment)


def _present(program: str) -> bool:
    return Path(program).exists() if program.startswith("/") else shutil.which(program) is not None
