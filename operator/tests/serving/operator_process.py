"""The real operator process before a real API server, and a service that it has brought up."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from apiserver import ApiServer
from cluster_player import ClusterPlayer, Manifest
from real_api import inference_service, new_namespace

from lmforge_operator.kube.resources import INFERENCE_SERVICES

HOST = "lmforge-reports.lmforge-system.svc"


@dataclass(frozen=True)
class Operator:
    """A running operator and where it works."""

    namespace: str
    port: int
    authority: Path
    log: Path


@contextmanager
def running_operator(api_server: ApiServer, folder: Path) -> Iterator[Operator]:
    """It works in a namespace of its own."""
    namespace = new_namespace(api_server, "serving")
    api_server.request("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "default"}})
    authority = api_server.control_plane.authority
    identity = authority.sign("serving", user="reports", hosts=[HOST])
    (folder / "tls.crt").write_bytes(identity.certificate.read_bytes())
    (folder / "tls.key").write_bytes(identity.key.read_bytes())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    reports = {"serviceUrl": f"https://{HOST}:{port}", "address": "127.0.0.1", "port": port}
    settings = {
        "httpAddress": "127.0.0.1",
        "httpPort": 0,
        "leaderElection": {"enabled": False},
        "reports": reports | {"certDir": str(folder), "caPath": str(authority.certificate)},
        "queue": {"minimumIntervalSeconds": 0.05, "patienceSeconds": 0.05},
        "statusIntervalSeconds": 0.2,
    }
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings))
    log = folder / "operator.log"
    command = ["-m", "lmforge_operator", "--settings", folder / "settings.yaml", "--kubeconfig", api_server.kubeconfig]
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, *map(str, command), "-n", namespace], stdout=output, stderr=output)
    try:
        yield Operator(namespace, port, authority.certificate, log)
    finally:
        process.kill()
        process.wait()
        print(log.read_text())  # pytest shows it when a test failed


async def serve(player: ClusterPlayer, name: str, *, ready: int = 1, **spec: object) -> str:
    """A service whose first revision is up; gives that revision."""
    await player.kube.create(INFERENCE_SERVICES, inference_service(player.namespace, name, **spec))
    revision: str = (await player.until(name, phase="Loading"))["updateRevision"]
    await player.all_ready(revision, ready)
    await player.until(name, phase="Ready", currentRevision=revision)
    return revision


def condition(status: Manifest, kind: str) -> tuple[str, str]:
    found = next(each for each in status["conditions"] if each["type"] == kind)
    return found["status"], found["reason"]
