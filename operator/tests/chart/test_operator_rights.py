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


def test_a_run_is_started_and_suspended_without_a_refusal(api_server: Any, operator_log: Path) -> None:
    def names(resource: str) -> set[str]:
        found = api_server.kubectl("get", resource, "-n", NAMESPACE, "-o", "name")
        return {line.split("/")[1] for line in found.splitlines()}

    spec = {
        "model": {"init": {}},
        "dataset": {"uri": "file:///data/text"},
        "nodes": 2,
        "parallelism": {"data": 2},
    }
    manifest = {"apiVersion": API_VERSION, "kind": "TrainingJob", "metadata": {"name": "tiny"}, "spec": spec}
    api_server.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(manifest))
    eventually(lambda: bool(names("jobs")), "a Job", operator_log)
    eventually(lambda: bool(names("events")), "an event", operator_log)
    assert {"lmforge-store"} == names("pvc")
    assert names("services")
    assert names("configmaps")
    api_server.kubectl("patch", "tj", "tiny", "-n", NAMESPACE, "--type=merge", "-p", '{"spec": {"suspend": true}}')
    eventually(lambda: not names("jobs"), "the end of the Job", operator_log)
    log = operator_log.read_text()
    assert not re.search("forbidden|403", log, re.IGNORECASE), log[-3000:]
