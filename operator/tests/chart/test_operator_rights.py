"""The real operator with the rights and the settings that the chart gives it, and no others."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lmforge_api.base import API_VERSION

pytestmark = pytest.mark.integration

SYSTEM = "lmforge-system"
NAMESPACE = "rights"
ACCOUNT = f"system:serviceaccount:{SYSTEM}:lmforge"


@pytest.fixture
def operator_log(render: Any, api_server: Any, tmp_path: Path) -> Iterator[Path]:
    """The operator runs; this is what it logs."""
    objects = render({"watchNamespaces": [NAMESPACE]})
    for namespace in (SYSTEM, NAMESPACE):
        api_server.ensure_namespace(namespace)
    roles = [manifest for (kind, _), manifest in objects.items() if "Role" in kind]
    api_server.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": roles}))
    settings = json.loads(objects["ConfigMap", "lmforge-settings"]["data"]["settings.json"])
    settings["reports"]["serviceUrl"] = None
    settings["leaderElection"]["namespace"] = SYSTEM
    settings["httpPort"] = 0
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    kubeconfig = api_server.control_plane.kubeconfig_for(ACCOUNT, groups=["system:serviceaccounts"])
    command = [sys.executable, "-m", "lmforge_operator", "--kubeconfig", kubeconfig]
    log = tmp_path / "operator.log"
    with log.open("w") as output:
        process = subprocess.Popen([*command, "--settings", tmp_path / "settings.json"], stdout=output, stderr=output)
        yield log
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)


def eventually(reached: Callable[[], bool], what: str, log: Path, *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"{what} did not happen; the operator says:\n{log.read_text()[-3000:]}"
        time.sleep(0.2)


def apply(api_server: Any, kind: str, name: str, spec: dict[str, Any]) -> None:
    manifest = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
    api_server.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(manifest))


def without_a_refusal(log: Path) -> bool:
    return not re.search("forbidden|403", log.read_text(), re.IGNORECASE)


TWO_NODES = {
    "TrainingJob": {"model": {"init": {}}, "nodes": 2, "parallelism": {"data": 2}},
    "FineTune": {"model": {"uri": "file:///models/base"}, "distributed": {"nodes": 2}},
}


@pytest.mark.parametrize("kind", TWO_NODES)
def test_a_run_is_started_and_suspended_without_a_refusal(api_server: Any, operator_log: Path, kind: str) -> None:
    def names(resource: str) -> set[str]:
        found = api_server.kubectl("get", resource, "-n", NAMESPACE, "-o", "name")
        return {line.split("/")[1] for line in found.splitlines()}

    apply(api_server, kind, "tiny", TWO_NODES[kind] | {"dataset": {"uri": "file:///data/text"}})
    eventually(lambda: bool(names("jobs")), "a Job", operator_log)
    eventually(lambda: bool(names("events")), "an event", operator_log)
    assert {"lmforge-store"} == names("pvc")
    assert names("jobs") <= names("configmaps")
    assert {job.removesuffix("-1") for job in names("jobs")} <= names("services")
    api_server.kubectl("patch", kind, "tiny", "-n", NAMESPACE, "--type=merge", "-p", '{"spec": {"suspend": true}}')
    eventually(lambda: not names("jobs"), "the end of the Job", operator_log)
    assert without_a_refusal(operator_log), operator_log.read_text()[-3000:]


def test_a_service_is_started_changed_and_scaled_without_a_refusal(api_server: Any, operator_log: Path) -> None:
    def replicas() -> dict[str, int]:
        found = json.loads(api_server.kubectl("get", "deployments", "-n", NAMESPACE, "-o", "json"))["items"]
        return {each["metadata"]["name"]: each["spec"]["replicas"] for each in found}

    def there(resource: str, *names: str) -> bool:
        found = api_server.kubectl("get", resource, "-n", NAMESPACE, "-o", "name")
        return set(names) <= {line.split("/")[1] for line in found.splitlines()}

    spec = {"model": {"uri": "file:///models/tiny"}, "gateway": {}, "replicas": 1}
    apply(api_server, "InferenceService", "chat", spec)
    eventually(lambda: there("services", "chat", "chat-router"), "the Services", operator_log)
    eventually(lambda: there("configmaps", "chat-gateway"), "the gateway's ConfigMap", operator_log)
    for resource in ("serviceaccounts", "roles", "rolebindings"):
        assert there(resource, "chat-router"), resource
    eventually(lambda: len(replicas()) == 3, "engine, router and gateway", operator_log)
    apply(api_server, "InferenceService", "chat", spec | {"replicas": 2, "gateway": {"accessLog": True}})
    eventually(lambda: 2 in replicas().values(), "a second replica", operator_log)
    apply(api_server, "InferenceService", "chat", {**spec, "gateway": None, "stopped": True})
    eventually(lambda: set(replicas().values()) == {0}, "the end of all pods", operator_log)
    eventually(lambda: not there("deployments", "chat-gateway"), "the end of the gateway", operator_log)
    assert without_a_refusal(operator_log), operator_log.read_text()[-3000:]
