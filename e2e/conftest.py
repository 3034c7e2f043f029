"""The cluster with LMForge on it: brought up once a session, and left up, so that the next session starts at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from e2e import corpus
from e2e.cluster.native import NativeCluster
from e2e.cluster.paths import Paths, default_paths
from e2e.lmforge import Kube, ensure_namespace, install, kube_of, plugin


@pytest.fixture(scope="session")
def paths() -> Paths:
    return default_paths()


@pytest.fixture(scope="session")
def cluster(paths: Paths) -> NativeCluster:
    """Two real nodes."""
    cluster = NativeCluster(paths, node_count=2)
    cluster.up()
    return cluster


@pytest.fixture(scope="session")
def images(cluster: NativeCluster) -> Mapping[str, str]:
    """Built from this checkout, and on the nodes."""
    return cluster.images()


@pytest.fixture(scope="session")
def lmforge(cluster: NativeCluster, images: Mapping[str, str], paths: Paths) -> Kube:
    """The chart, installed from this checkout."""
    kube = kube_of(paths, cluster.kubeconfig)
    install(kube, images)
    return kube


@pytest.fixture(scope="session")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """python-docs: 1.2 MB of Python's documentation; little: a tenth of that."""
    folder = tmp_path_factory.mktemp("corpus")
    for name, megabytes in (("python-docs", 1.2), ("little", 0.1)):
        corpus.slice_of(corpus.python_documentation(), megabytes=megabytes, target=folder / name)
    return folder


@pytest.fixture(scope="module")
def kube(lmforge: Kube, documents: Path, request: pytest.FixtureRequest) -> Iterator[Kube]:
    """A namespace for the scenarios of one file, with the text on a claim named `corpus`; gone afterwards."""
    story = request.path.stem.removeprefix("test_")
    name = "t-" + re.sub(r"[^a-z0-9]+", "-", story.lower())
    lmforge("delete", "namespace", name, "--ignore-not-found", "--wait=true", "--timeout=120s")
    inside = ensure_namespace(lmforge, name)
    plugin(inside, "put", str(documents), "pvc://corpus", "--create", "64Mi")
    yield inside
    lmforge("delete", "namespace", name, "--ignore-not-found", "--wait=false")
