"""The real operator process, and what a gateway's pod would say to it."""

import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from apiserver import ApiServer
from cluster_player import ClusterPlayer, Manifest
from real_api import inference_service, new_namespace

from lmforge_api.gateway_run import DemandReply
from lmforge_operator.kube.resources import INFERENCE_SERVICES

HOST = "lmforge-reports.lmforge-system.svc"


@dataclass
class Operator:
    """A running operator and where it works."""

    namespace: str
    port: int
    authority: Path
    log: Path
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(self.command, stdout=output, stderr=output)

    def kill(self) -> None:
        """Without notice."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@contextmanager
def running_operator(api_server: ApiServer, folder: Path) -> Iterator[Operator]:
    """One that works in a namespace of its own, and has the endpoint for reports."""
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
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump(settings))
    where = ["--settings", str(path), "--kubeconfig", str(api_server.kubeconfig), "-n", namespace]
    command = [sys.executable, "-m", "lmforge_operator", *where]
    operator = Operator(namespace, port, authority.certificate, folder / "operator.log", command)
    operator.start()
    try:
        yield operator
    finally:
        operator.kill()
        print(operator.log.read_text())  # pytest shows it when a test failed


async def serve(player: ClusterPlayer, name: str, *, ready: int = 1, **spec: object) -> str:
    """A service whose first revision is up; gives that revision."""
    await player.kube.create(INFERENCE_SERVICES, inference_service(player.namespace, name, **spec))
    revision: str = (await player.until(name, phase="Loading"))["updateRevision"]
    await player.all_ready(revision, ready)
    await player.until(name, phase="Ready", currentRevision=revision)
    return revision


def condition(status: Manifest, kind: str) -> tuple[str, str]:
    """Its status and reason."""
    found = next(each for each in status["conditions"] if each["type"] == kind)
    return found["status"], found["reason"]


async def demand(
    api_server: ApiServer, player: ClusterPlayer, operator: Operator, pod: Manifest, *, waiting: int = 0, **more: Any
) -> DemandReply:
    """The gateway in this pod posts a report; gives what it hears."""
    meta = pod["metadata"]
    name = meta["labels"]["lmforge.dev/name"]
    bound = {"kind": "Pod", "apiVersion": "v1", "name": meta["name"], "uid": meta["uid"]}
    audience = f"lmforge.dev/inferenceservices/{player.namespace}/{name}"
    made = api_server.request(
        "POST",
        f"/api/v1/namespaces/{player.namespace}/serviceaccounts/default/token",
        {"spec": {"audiences": [audience], "boundObjectRef": bound}},
    )
    assert made.ok, made.message
    context = ssl.create_default_context(cafile=str(operator.authority))
    url = f"https://127.0.0.1:{operator.port}/v1/demand/inferenceservices/{player.namespace}/{name}"
    headers = {"Authorization": f"Bearer {made.body['status']['token']}"}
    report = {"pod": meta["name"], "waiting": waiting, "idleSeconds": 0 if waiting else 60, **more}
    connector = aiohttp.TCPConnector(ssl=context)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post(url, json=report, headers=headers, server_hostname=HOST) as answer,
    ):
        assert answer.status == 200, await answer.text()
        return DemandReply.model_validate_json(await answer.read())
