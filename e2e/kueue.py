"""Kueue beside a control plane: its own definitions and webhooks, and its manager as a process here.

It makes its certificates itself, for a Service and in a Secret, and can't be told otherwise without a pod's files. So
two things that a cluster would do are done by hand: the API server finds the webhooks at a port of this machine, as the
Service is an alias of localhost; and the certificates are brought from the Secret to the folder that Kueue reads (a
kubelet would mount the Secret there).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from e2e.cluster.control_plane import ControlPlane
from e2e.controllers import Manager, Manifest, Source

KUEUE = Source(
    program="kueue-manager",
    module="sigs.k8s.io/kueue",
    definitions="default",
    webhooks="default",
    configuration="config.kueue.x-k8s.io/v1beta2",
)
SETTINGS = {
    "internalCertManagement": {"enable": True},
    "clientConnection": {"qps": 500, "burst": 1000},
    "integrations": {"frameworks": ["batch/job"]},
    "featureGates": {"VisibilityOnDemand": False},  # an API server of its own that nobody asks here
}
NAMESPACE, SERVICE, SECRET = "kueue-system", "kueue-webhook-service", "kueue-webhook-server-cert"
TAKEN = ("Namespace", "CustomResourceDefinition", "Secret")
"""What is taken over from Kueue's own installation as it is."""
WATCHED_GROUPS = ("batch", "kueue.x-k8s.io")
"""API groups whose webhooks are put up: Jobs are the only work that is queued here."""


@contextmanager
def kueue(control_plane: ControlPlane, folder: Path) -> Iterator[None]:
    """Installed and at work while the block runs."""
    manager = Manager(KUEUE, control_plane, folder, flags=("--zap-log-level=info",), settings=SETTINGS)
    manager.prepare()
    installed = _installation(control_plane.kubectl("kustomize", KUEUE.files / KUEUE.definitions), port=manager.port)
    control_plane.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(installed))
    manager.daemon.start()
    try:
        _bring_certificates(manager)
        manager.start()
        yield
    finally:
        manager.stop()


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


def _bring_certificates(manager: Manager) -> None:
    """As soon as the manager has made them."""
    found: dict[str, str] = {}

    def made() -> bool:
        secret = manager.control_plane.kubectl("get", "secret", SECRET, "-n", NAMESPACE, "-o", "json")
        found.update(json.loads(secret).get("data") or {})
        return "tls.crt" in found

    manager.wait_until(made, what="Kueue's certificates")
    for name in ("ca.crt", "tls.key", "tls.crt"):
        (manager.certificates / name).write_bytes(base64.b64decode(found[name]))
