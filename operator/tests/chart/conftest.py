"""helm, built once and kept, and what it makes of the chart."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster import binaries
from e2e.cluster.paths import default_paths
from e2e.cluster.shell import run

CHART = Path(__file__).resolve().parents[3] / "charts/lmforge"

Helm = Callable[..., str]
Render = Callable[..., dict[tuple[str, str], dict[str, Any]]]


@pytest.fixture(scope="session")
def helm() -> Helm:
    """Runs helm on the chart and returns what it prints."""
    paths = default_paths()
    binaries.ensure(paths, "helm")

    def call(*arguments: str | Path, stdin: str | None = None) -> str:
        return run(paths.bin / "helm", *arguments, stdin=stdin)

    return call


@pytest.fixture(scope="session")
def render(helm: Helm) -> Render:
    """The objects that the chart makes of these values, by kind and name."""

    def call(values: dict[str, Any] | None = None) -> dict[tuple[str, str], dict[str, Any]]:
        text = helm(
            "template", "lmforge", CHART, "--namespace", "lmforge-system", "--kube-version", "1.35.0", "--values", "-",
            stdin=yaml.safe_dump(values or {}),
        )  # fmt: skip
        manifests = [manifest for manifest in yaml.safe_load_all(text) if manifest]
        return {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in manifests}

    return call
