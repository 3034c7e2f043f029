"""Kubernetes' own programs, compiled from their Go modules, because no image registry or download site is assumed.

Each folder below tools/ pins one set of programs by go.mod and go.sum. What was compiled is kept in the cache under a
hash of those files, and ``bin/<program>`` links to it; when it is there, nothing is done.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.errors import ToolMissing
from e2e.cluster.paths import TOOLS_SOURCE, Paths
from e2e.cluster.shell import locked, run, step

GO_HINT = (
    "Go 1.26 or newer is needed to compile Kubernetes. Install it with:\n"
    "  curl -L https://go.dev/dl/go1.26.8.linux-amd64.tar.gz | tar -C /usr/local -xz"
    " && export PATH=$PATH:/usr/local/go/bin"
)


@dataclass(frozen=True)
class Module:
    """One folder below tools/, and the packages of the programs that it pins."""

    name: str
    programs: Mapping[str, str]

    @property
    def source(self) -> Path:
        return TOOLS_SOURCE / self.name

    @property
    def build(self) -> str:
        """Name and version."""
        content = (self.source / "go.mod").read_bytes() + (self.source / "go.sum").read_bytes()
        return f"{self.name}-{hashlib.sha256(content).hexdigest()[:12]}"


MODULES = (
    Module(
        "kubernetes",
        {
            "etcd": "go.etcd.io/etcd/server/v3",
            "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
            "kubectl": "k8s.io/kubernetes/cmd/kubectl",
            "kubelet": "k8s.io/kubernetes/cmd/kubelet",
            "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
            "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
            "kube-proxy": "k8s.io/kubernetes/cmd/kube-proxy",
        },
    ),
    Module("coredns", {"coredns": "github.com/coredns/coredns"}),
    Module(
        "local-path-provisioner",
        {"local-path-provisioner": "github.com/rancher/local-path-provisioner"},
    ),
    Module("helm", {"helm": "helm.sh/helm/v3/cmd/helm"}),
    Module("kwok", {"kwok": "sigs.k8s.io/kwok/cmd/kwok"}),
    Module("lws", {"lws-manager": "sigs.k8s.io/lws/cmd"}),
    Module("jobset", {"jobset-manager": "sigs.k8s.io/jobset"}),
    Module("kueue", {"kueue-manager": "sigs.k8s.io/kueue/cmd/kueue"}),
)
PROGRAMS = tuple(program for module in MODULES for program in module.programs)


def ensure(paths: Paths, *programs: str) -> None:
    """Compiles those of ``programs`` (all, if none is named) that aren't there yet, and links them into bin/."""
    wanted = programs or PROGRAMS
    for module in MODULES:
        for program in wanted:
            if program in module.programs:
                _ensure(paths, module, program)


def build_of(program: str) -> str:
    """Names the pinned sources that a program is compiled from, whether it has been or not."""
    return next(module.build for module in MODULES if program in module.programs)


def files_of(dependency: str, *, program: str) -> Path:
    """The folder of a Go module that ``program`` is compiled from: its manifests are there."""
    source = next(module.source for module in MODULES if program in module.programs)
    return Path(json.loads(run("go", "mod", "download", "-json", dependency, cwd=source))["Dir"])


def _ensure(paths: Paths, module: Module, program: str) -> None:
    folder = paths.bin / module.build
    if not (folder / program).exists():
        with locked(paths.bin / ".lock"):
            if not (folder / program).exists():
                _compile(module, program, folder)
    _link(paths.bin / program, folder / program)


def _compile(module: Module, program: str, folder: Path) -> None:
    if not shutil.which("go"):
        raise ToolMissing(GO_HINT)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{program}"
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"}
    flags = ("-trimpath", "-ldflags", f"-s -w -X k8s.io/component-base/version.gitVersion={kubernetes_version()}")
    with step(f"compiling {program}"):
        run(
            *("nice", "go", "build", *flags, "-o", unfinished, module.programs[program]),
            cwd=module.source,
            env=environment,
        )
    unfinished.rename(folder / program)


def kubernetes_version() -> str:
    """The release that tools/kubernetes/go.mod pins, such as v1.35.4."""
    found = re.search(r"k8s\.io/kubernetes (v\S+)", (TOOLS_SOURCE / "kubernetes" / "go.mod").read_text())
    assert found, "tools/kubernetes/go.mod names no Kubernetes release"
    return found[1]


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    new = link.with_name(f".{link.name}.{os.getpid()}")
    new.symlink_to(target)
    new.rename(link)
