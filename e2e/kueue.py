"""Kueue beside a control plane: its own definitions and webhooks, and its manager as a process here.

Its image can't be had without a registry of images, so the program is compiled from its Go module. Two things that a
cluster would do are done by hand: the API server finds the webhooks at a port of this machine, as the Service is an
alias of localhost; and the certificates that the manager writes to its Secret are brought to the folder that it reads
(a kubelet would mount the Secret there).
"""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import binaries
from e2e.cluster.control_plane import ControlPlane, free_ports
from e2e.cluster.process import Daemon
from e2e.cluster.shell import wait_for

Manifest = dict[str, Any]

PROGRAM = "kueue-manager"
NAMESPACE, SERVICE, SECRET = "kueue-system", "kueue-webhook-service", "kueue-webhook-server-cert"
TAKEN = ("Namespace", "CustomResourceDefinition", "Secret")
"""What is taken over from Kueue's own installation as it is."""
WATCHED_GROUPS = ("batch", "kueue.x-k8s.io")
"""API groups whose webhooks are put up: Jobs are the only work that is queued here."""


@contextmanager
def kueue(control_plane: ControlPlane, folder: Path) -> Iterator[Daemon]:
    """Installed and at work while the block runs."""
    binaries.ensure(control_plane.paths, PROGRAM)
    config = binaries.files_of("sigs.k8s.io/kueue", program=PROGRAM) / "config" / "default"
    webhook_port, health_port = free_ports(2)
    installed = _installation(control_plane.kubectl("kustomize", config), port=webhook_port)
    control_plane.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(installed))
    daemon = _manager(control_plane, folder, webhook_port=webhook_port, health_port=health_port)
    daemon.start()
    try:
        _bring_certificates(control_plane, folder, daemon)
        ready = f"http://127.0.0.1:{health_port}/readyz"
        wait_for(lambda: _answers(ready, daemon), what="Kueue", seconds=60, details=daemon.log_tail)
        yield daemon
    finally:
        daemon.stop()


def _installation(text: str, *, port: int) -> list[Manifest]:
    """Kueue's own, without what needs its pod, and with its Service as an alias of this machine."""
    alias = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": SERVICE, "namespace": NAMESPACE},
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    }
    wanted: list[Manifest] = []
    for manifest in yaml.safe_load_all(text):
        if manifest["kind"].endswith("WebhookConfiguration"):
            manifest["webhooks"] = [each for each in manifest["webhooks"] if _is_of_use(each)]
            for webhook in manifest["webhooks"]:
                webhook["clientConfig"]["service"]["port"] = port
            wanted.append(manifest)
        elif manifest["kind"] in TAKEN:
            conversion = manifest.get("spec", {}).get("conversion", {}).get("webhook")
            if conversion:
                conversion["clientConfig"]["service"]["port"] = port
            wanted.append(manifest)
    namespaces_first = sorted(wanted, key=lambda manifest: manifest["kind"] != "Namespace")
    return [*namespaces_first, alias]


def _is_of_use(webhook: Manifest) -> bool:
    return any(group in WATCHED_GROUPS for rule in webhook["rules"] for group in rule["apiGroups"])


def _manager(control_plane: ControlPlane, folder: Path, *, webhook_port: int, health_port: int) -> Daemon:
    settings = {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "webhook": {"host": "127.0.0.1", "port": webhook_port, "certDir": str(folder / "certificates")},
        "health": {"healthProbeBindAddress": f"127.0.0.1:{health_port}"},
        "metrics": {"bindAddress": "0"},
        "leaderElection": {"leaderElect": False},
        "internalCertManagement": {"enable": True},
        "clientConnection": {"qps": 500, "burst": 1000},
        "integrations": {"frameworks": ["batch/job"]},
        "featureGates": {"VisibilityOnDemand": False},  # an API server of its own that nobody asks here
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    argv = [str(control_plane.paths.bin / PROGRAM), f"--config={folder / 'config.yaml'}", "--zap-log-level=info"]
    return Daemon(PROGRAM, argv, folder, {"KUBECONFIG": str(control_plane.kubeconfig)}, dies_with_parent=True)


def _bring_certificates(control_plane: ControlPlane, folder: Path, daemon: Daemon) -> None:
    """As soon as the manager has made them."""
    found: dict[str, str] = {}

    def made() -> bool:
        daemon.require_running()
        secret = control_plane.kubectl("get", "secret", SECRET, "-n", NAMESPACE, "-o", "json")
        found.update(json.loads(secret).get("data") or {})
        return "tls.crt" in found

    wait_for(made, what="Kueue's certificates", seconds=60, details=daemon.log_tail)
    target = folder / "certificates"
    target.mkdir(exist_ok=True)
    for name in ("ca.crt", "tls.key", "tls.crt"):
        (target / name).write_bytes(base64.b64decode(found[name]))


def _answers(url: str, daemon: Daemon) -> bool:
    daemon.require_running()
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False
