"""LeaderWorkerSet for as long as a scenario needs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from e2e.cluster.native import NativeCluster
from e2e.controllers import Controller, Source

LEADER_WORKER_SET = Source(
    program="lws-manager",
    module="sigs.k8s.io/lws",
    definitions="crd/bases/leaderworkerset.x-k8s.io_leaderworkersets.yaml",
    webhooks="webhook",
    configuration="config.lws.x-k8s.io/v1alpha1",
)


@contextmanager
def leader_worker_set(cluster: NativeCluster) -> Iterator[None]:
    """Installed, and taken away again with all that it made."""
    with TemporaryDirectory() as folder:
        controller = Controller(LEADER_WORKER_SET, cluster.control_plane, Path(folder), flags=("--zap-log-level=info",))
        try:
            controller.install()
            yield
        finally:
            controller.uninstall()
