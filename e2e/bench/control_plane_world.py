"""What bench (b) runs against: a real etcd, API server, controller manager and scheduler, KWOK playing the pods,
and the operator as a process of its own whose CPU time and memory are read from /proc."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from e2e.cluster.control_plane import API, SCHEDULING, ControlPlane, Settings
from e2e.cluster.paths import REPOSITORY
from e2e.cluster.shell import wait_for

STAGES = Path(__file__).with_name("control_plane_stages.yaml")
NAMESPACE = "bench"
TICKS = os.sysconf("SC_CLK_TCK")

# The controllers' own limits are 20 requests a second (the scheduler's 50): as it is where nobody changed that, pods
# come one by one long after their Jobs. Without limits all components compete for the cores at once.
UNLIMITED = ("--kube-api-qps=5000", "--kube-api-burst=10000")

WORLD = """
apiVersion: v1
kind: Namespace
metadata: {name: bench}
---
apiVersion: v1
kind: Node
metadata: {name: played, labels: {kubernetes.io/os: linux}}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: store}
spec:
  accessModes: [ReadWriteMany]
  capacity: {storage: 1Ti}
  hostPath: {path: /nowhere}
  claimRef: {namespace: bench, name: lmforge-store}
  storageClassName: played
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: lmforge-store, namespace: bench}
spec:
  accessModes: [ReadWriteMany]
  resources: {requests: {storage: 1Ti}}
  storageClassName: played
  volumeName: store
"""


@contextmanager
def control_plane(folder: Path, *, unlimited: bool, stages: Path = STAGES) -> Iterator[ControlPlane]:
    """A control plane with the CRDs, one played node of any size, and a bound store claim."""
    arguments: dict[str, Sequence[str]] = {"kwok": (f"--config={stages}",)}
    if unlimited:
        arguments["kube-controller-manager"] = (*UNLIMITED, "--concurrent-job-syncs=10", "--concurrent-gc-syncs=10")
        arguments["kube-scheduler"] = UNLIMITED
    settings = Settings(node_grace_seconds=86400, extra_arguments=arguments)
    with ControlPlane(folder, components=(*API, *SCHEDULING, "kwok"), settings=settings) as running:
        crds = REPOSITORY / "crds"
        running.kubectl("apply", "--server-side", "-f", crds)
        wait_for(lambda: _are_established(running), what="the CRDs to be established", seconds=60)
        running.kubectl("apply", "-f", "-", stdin=WORLD)
        running.kubectl("wait", "--for=condition=Ready", "--timeout=30s", "node/played")
        yield running


def _are_established(running: ControlPlane) -> bool:
    items = json.loads(running.kubectl("get", "crds", "-o", "json"))["items"]
    met = [{each["type"]: each["status"] for each in item["status"].get("conditions") or ()} for item in items]
    return all(conditions.get("Established") == "True" for conditions in met)


def cpu_seconds(running: ControlPlane) -> dict[str, float]:
    """User and system time of each component since its start."""
    pids = {name: running.daemon(name).pid for name in running.components}
    return {name: cpu_seconds_of(Path("/proc") / str(pid)) for name, pid in pids.items() if pid}


def cpu_seconds_of(process: Path) -> float:
    """User and system time of the process with this folder in /proc."""
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mib_of(process: Path, field: str) -> float:
    """A figure of /proc/<pid>/status."""
    status = (process / "status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(field))


class Measured(Protocol):
    """A controller whose cost is read."""

    def cpu_seconds(self) -> float:
        """User and system time since its start."""
        ...

    def memory_mib(self, field: str = "VmRSS") -> float:
        """Resident memory now, or its peak (VmHWM)."""
        ...


@dataclass
class Operator:
    """The operator, started by hand."""

    kubeconfig: Path
    folder: Path
    http_port: int = 0
    python: tuple[str, ...] = (sys.executable,)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Gives the time (monotonic) at which it was started."""
        settings = self.folder / "operator.yaml"
        settings.write_text(f"httpAddress: 127.0.0.1\nhttpPort: {self.http_port}\n")
        command = [*self.python, "-m", "lmforge_operator", "--settings", settings, "--kubeconfig", self.kubeconfig]
        started = time.monotonic()
        with (self.folder / "operator.log").open("ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *map(str, command)], stdout=log, stderr=log, start_new_session=True
            )
        return started

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(sign)
            self.process.wait(30)
            self.process = None

    def cpu_seconds(self) -> float:
        return cpu_seconds_of(self._proc())

    def memory_mib(self, field: str = "VmRSS") -> float:
        return memory_mib_of(self._proc(), field)

    def _proc(self) -> Path:
        assert self.process is not None, "the operator is not running"
        return Path("/proc") / str(self.process.pid)
