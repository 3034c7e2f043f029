"""Where the benches on the cluster run: a namespace of their own, with LMForge installed and a little text."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e import corpus
from e2e.cluster.native import NativeCluster
from e2e.cluster.paths import default_paths
from e2e.lmforge import Kube, ensure_namespace, install, kube_of, plugin


@dataclass(frozen=True)
class Place:
    """A cluster that is ready to be measured."""

    cluster: NativeCluster
    images: Mapping[str, str]
    kube: Kube


@contextmanager
def place(name: str) -> Iterator[Place]:
    """Brings all of it up; afterwards the namespace goes."""
    paths = default_paths()
    cluster = NativeCluster(paths, node_count=2)
    cluster.up()
    images = cluster.images()
    kube = kube_of(paths, cluster.kubeconfig)
    install(kube, images)
    namespace = f"bench-{name}"
    kube("delete", "namespace", namespace, "--ignore-not-found", "--timeout=120s")
    inside = ensure_namespace(kube, namespace)
    with tempfile.TemporaryDirectory() as folder:
        text = corpus.slice_of(corpus.python_documentation(), megabytes=0.5, target=Path(folder))
        plugin(inside, "put", text, "pvc://corpus/little", "--create", "64Mi")
    try:
        yield Place(cluster, images, inside)
    finally:
        kube("delete", "namespace", namespace, "--wait=false")
