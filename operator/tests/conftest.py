"""A real API server for the whole test session: etcd and kube-apiserver, with the CRDs in place."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from apiserver import ApiServer, wait_until_established
from hypothesis import settings

from e2e.cluster.control_plane import ControlPlane

# How long an example takes says something about the machine, not about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

CRDS = Path(__file__).resolve().parents[2] / "crds"


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """Up for the session (a few seconds to start), with LMForge's CRDs established."""
    with ControlPlane(tmp_path_factory.mktemp("control-plane")) as control_plane:
        control_plane.kubectl("apply", "--server-side", "-f", CRDS)
        wait_until_established(control_plane)
        yield ApiServer(control_plane)
