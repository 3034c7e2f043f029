"""The cluster under test is the one of `make up`: it is brought up once, and stays up."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from e2e.cluster.native import NativeCluster
from e2e.cluster.paths import default_paths


@pytest.fixture(scope="session")
def cluster() -> NativeCluster:
    if os.environ.get("CLUSTER", "native") != "native":
        pytest.skip("these are tests of the native cluster")
    native = NativeCluster(default_paths(), node_count=2)
    native.up()
    return native


@pytest.fixture
def namespace(cluster: NativeCluster, request: pytest.FixtureRequest) -> Iterator[str]:
    name = request.node.name.replace("_", "-")[:60].rstrip("-")
    cluster.control_plane.kubectl("create", "namespace", name)
    yield name
    cluster.control_plane.kubectl("delete", "namespace", name, "--wait=false")
