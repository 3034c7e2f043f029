"""LMForge on a cluster, as demo, scenarios and benches use it: install, apply, watch, say what is when it fails."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.cluster import binaries
from e2e.cluster.errors import CommandFailed
from e2e.cluster.paths import REPOSITORY, Paths
from e2e.cluster.shell import run
from e2e.watch import Watch

Manifest = dict[str, Any]

CHART = REPOSITORY / "charts" / "lmforge"
RELEASE = "lmforge"
SYSTEM_NAMESPACE = "lmforge-system"


class NotReached(AssertionError):
    """What was awaited did not come; the text shows what there was instead."""


@dataclass(frozen=True)
class Kube:
    """kubectl on one cluster, and in one namespace."""

    kubeconfig: Path
    bin: Path
    namespace: str = "default"

    def within(self, namespace: str) -> Kube:
        """The same cluster, another namespace."""
        return Kube(self.kubeconfig, self.bin, namespace)

    @property
    def environment(self) -> dict[str, str]:
        """For programs that find the cluster by themselves: helm, the plugin."""
        path = f"{self.bin}:{os.environ['PATH']}"
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "PATH": path}

    def __call__(self, *arguments: str | Path, stdin: str | None = None, check: bool = True) -> str:
        """What kubectl prints."""
        scope: list[str | Path] = ["--kubeconfig", self.kubeconfig, "--namespace", self.namespace]
        return run(self.bin / "kubectl", *scope, *arguments, stdin=stdin, check=check)

    def helm(self, *arguments: str | Path) -> str:
        """What helm prints."""
        return run(self.bin / "helm", "--kubeconfig", self.kubeconfig, *arguments)

    def get(self, *arguments: str) -> Manifest:
        """An object, or a list of them."""
        found = json.loads(self("get", *arguments, "-o", "json"))
        assert isinstance(found, dict)
        return found

    def items(self, *arguments: str) -> list[Manifest]:
        """The members of a list."""
        return list(self.get(*arguments)["items"])

    def apply(self, *manifests: Manifest) -> None:
        """Server-side, as the user."""
        for manifest in manifests:
            self("apply", "--server-side", "-f", "-", stdin=json.dumps(manifest))

    def status(self, reference: str) -> Manifest:
        """An object's status; empty as long as there is none."""
        return dict(self.get(reference).get("status") or {})

    def wait(self, reference: str, reached: Callable[[Manifest], bool], *, what: str, seconds: float) -> Manifest:
        """Watches an object's status. NotReached, with all there is to know about it, at the deadline."""
        command = [str(self.bin / "kubectl"), "--kubeconfig", str(self.kubeconfig), "--namespace", self.namespace]
        with Watch([*command, "get", reference], seconds=seconds) as statuses:
            for status in statuses:
                if reached(status):
                    return status
        raise NotReached(f"{reference}: {what}: not within {seconds:.0f} s\n{self.story(reference)}")

    def wait_phase(self, reference: str, *phases: str, seconds: float) -> Manifest:
        """Waits for one of these phases; another final phase ends the waiting at once."""
        final = {"Succeeded", "Failed"}
        status = self.wait(
            reference,
            lambda s: s.get("phase") in {*phases, *final},
            what=f"phase {' or '.join(phases)}",
            seconds=seconds,
        )
        if status["phase"] not in phases:
            raise NotReached(f"{reference}: {status['phase']} instead of {phases}\n{self.story(reference)}")
        return status

    def story(self, reference: str) -> str:
        """What a person would look at."""
        said = self("describe", reference, check=False)
        pods = self("get", "pods", "-o", "wide", check=False)
        logs = self("logs", "-l", "app.kubernetes.io/managed-by=lmforge", "--tail=25", "--prefix", check=False)
        operator = self.within(SYSTEM_NAMESPACE)
        last = operator("logs", "-l", "app.kubernetes.io/name=lmforge", "--tail=15", "--prefix", check=False)
        return f"{said}\n{pods}\n{logs}\n{last}"


def kube_of(paths: Paths, kubeconfig: Path) -> Kube:
    """kubectl and helm for a cluster that `e2e.cluster` has brought up."""
    binaries.ensure(paths, "kubectl", "helm")
    return Kube(kubeconfig, paths.bin)


def install(
    kube: Kube, images: Mapping[str, str], *, values: Sequence[str] = (), objects: Mapping[str, object] | None = None
) -> None:
    """Installs or upgrades the chart and waits until it is ready. `objects` is for what `--set` has no words for."""
    settings = [*(f"images.{name}={reference}" for name, reference in images.items()), *values]
    structured = [f"{path}={json.dumps(value)}" for path, value in (objects or {}).items()]
    kube.helm(
        "upgrade", "--install", RELEASE, CHART, "--namespace", SYSTEM_NAMESPACE, "--create-namespace",
        "--take-ownership",
        *(word for value in settings for word in ("--set", value)),
        *(word for value in structured for word in ("--set-json", value)), "--wait", "--timeout", "180s",
    )  # fmt: skip


def plugin(kube: Kube, *arguments: str | Path) -> str:
    """`kubectl lmforge …` in this namespace."""
    command = (REPOSITORY / ".venv/bin/kubectl-lmforge", arguments[0], "--namespace", kube.namespace, *arguments[1:])
    return run(*command, env=kube.environment)


def ensure_namespace(kube: Kube, name: str) -> Kube:
    """The namespace, made if it isn't there."""
    try:
        kube("create", "namespace", name)
    except CommandFailed as error:
        if "AlreadyExists" not in str(error):
            raise
    return kube.within(name)
