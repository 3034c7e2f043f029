"""LeaderWorkerSet for as long as a scenario needs it: its definition, webhooks, and its controller as a process here.

Its images can't be had without a registry of images, so the program is compiled from its Go module, and the API server
finds its webhooks by address instead of through a Service.
"""

from __future__ import annotations

import base64
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from e2e.cluster import binaries
from e2e.cluster.native import NativeCluster
from e2e.cluster.process import Daemon
from e2e.cluster.shell import wait_for
from e2e.lmforge import Manifest

PROGRAM = "lws-manager"
HOST, PORT, HEALTH_PORT = "127.0.0.1", 19443, 19081


@contextmanager
def leader_worker_set(cluster: NativeCluster) -> Iterator[None]:
    """Installed, and taken away again with all that it made."""
    binaries.ensure(cluster.paths, PROGRAM)
    config = binaries.files_of("sigs.k8s.io/lws", program=PROGRAM) / "config"
    kubectl = cluster.control_plane.kubectl
    kubectl("apply", "--server-side", "-f", config / "crd" / "bases" / "leaderworkerset.x-k8s.io_leaderworkersets.yaml")
    webhooks = _webhooks(kubectl("kustomize", config / "webhook"), cluster)
    with TemporaryDirectory() as folder:
        daemon = _controller(cluster, Path(folder))
        try:
            daemon.start()
            wait_for(lambda: _listens(daemon), what="LeaderWorkerSet's controller", seconds=60, details=daemon.log_tail)
            kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(webhooks))
            yield
        finally:
            kubectl("delete", "--ignore-not-found", "-f", "-", stdin=yaml.safe_dump_all(webhooks))
            kubectl("delete", "--ignore-not-found", "crd", "leaderworkersets.leaderworkerset.x-k8s.io")
            daemon.stop()


def _controller(cluster: NativeCluster, folder: Path) -> Daemon:
    identity = cluster.control_plane.authority.sign(PROGRAM, user=PROGRAM, hosts=[HOST])
    shutil.copy(identity.certificate, folder / "tls.crt")
    shutil.copy(identity.key, folder / "tls.key")
    settings = {
        "apiVersion": "config.lws.x-k8s.io/v1alpha1",
        "kind": "Configuration",
        "webhook": {"host": HOST, "port": PORT, "certDir": str(folder)},
        "health": {"healthProbeBindAddress": f"{HOST}:{HEALTH_PORT}"},
        "metrics": {"bindAddress": "0"},
        "leaderElection": {"leaderElect": False},
        "internalCertManagement": {"enable": False},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    argv = [str(cluster.paths.bin / PROGRAM), f"--config={folder / 'config.yaml'}", "--zap-log-level=info"]
    return Daemon(PROGRAM, argv, folder, {"KUBECONFIG": str(cluster.kubeconfig)}, dies_with_parent=True)


def _webhooks(text: str, cluster: NativeCluster) -> list[Manifest]:
    """The module's own, but for where they are called."""
    authority = base64.b64encode(cluster.control_plane.authority.certificate.read_bytes()).decode()
    found = [each for each in yaml.safe_load_all(text) if each["kind"].endswith("WebhookConfiguration")]
    for configuration in found:
        configuration["metadata"] = {"name": f"lws-{configuration['metadata']['name']}"}
        for webhook in configuration["webhooks"]:
            path = webhook["clientConfig"]["service"]["path"]
            webhook["clientConfig"] = {"url": f"https://{HOST}:{PORT}{path}", "caBundle": authority}
    return found


def _listens(daemon: Daemon) -> bool:
    daemon.require_running()
    try:
        socket.create_connection((HOST, PORT), timeout=1).close()
    except OSError:
        return False
    return True
