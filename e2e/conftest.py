"""The cluster with LMForge on it: brought up once a session, and left up, so that the next session starts at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from e2e import corpus
from e2e.cluster.__main__ import choose
from e2e.cluster.interface import Cluster
from e2e.cluster.paths import Paths, default_paths
from e2e.lmforge import Kube, ensure_namespace, install, kube_of, plugin

CORPUS_MEGABYTES = 2.0


@pytest.fixture(scope="session")
def paths() -> Paths:
    return default_paths()


@pytest.fixture(scope="session")
def cluster(paths: Paths) -> Cluster:
    """Two real nodes."""
    cluster = choose("native", paths, nodes=2)
    cluster.up()
    return cluster


@pytest.fixture(scope="session")
def images(cluster: Cluster) -> Mapping[str, str]:
    """Built from this checkout, and on the nodes."""
    return cluster.images()


@pytest.fixture(scope="session")
def lmforge(cluster: Cluster, images: Mapping[str, str], paths: Paths) -> Kube:
    """The chart, installed from this checkout."""
    kube = kube_of(paths, cluster.kubeconfig)
    install(kube, images)
    return kube


@pytest.fixture(scope="session")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two megabytes of Python's documentation."""
    return corpus.slice_of(
        corpus.python_documentation(), megabytes=CORPUS_MEGABYTES, target=tmp_path_factory.mktemp("corpus")
    )


@pytest.fixture
def kube(lmforge: Kube, documents: Path, request: pytest.FixtureRequest) -> Iterator[Kube]:
    """A namespace of the test's own, with the text on a claim named `corpus`; gone afterwards."""
    name = "t-" + re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())[:50].strip("-")
    lmforge("delete", "namespace", name, "--ignore-not-found", "--wait=true", "--timeout=120s")
    inside = ensure_namespace(lmforge, name)
    plugin(inside, "put", str(documents), "pvc://corpus/python-docs", "--create", "64Mi")
    yield inside
    lmforge("delete", "namespace", name, "--ignore-not-found", "--wait=false")
