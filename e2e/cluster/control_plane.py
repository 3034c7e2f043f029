"""A Kubernetes control plane as plain processes: for integration tests on free ports, and under the whole cluster.

In a test:

    with ControlPlane(tmp_path) as control_plane:                     # etcd and kube-apiserver, ready in seconds
        client(control_plane.kubeconfig)
        control_plane.kubectl("apply", "-f", "crds/")
        control_plane.kill("kube-apiserver")                          # as a crash would
        control_plane.start()                                         # brings back what is missing, same data

    stages = {"kwok": ["--config=stages.yaml"]}                        # what KWOK does to nodes and pods
    ControlPlane(tmp_path, components=(*API, *SCHEDULING, "kwok"), settings=Settings(extra_arguments=stages))

Several can run side by side. RBAC is on, and TokenReview and projected tokens work. Without a controller manager
nothing makes service accounts or collects garbage, so that admission doesn't ask pods for a service account.
"""

from __future__ import annotations

import json
import random
import shutil
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType

from e2e.cluster import binaries
from e2e.cluster.cgroups import NodeGroup
from e2e.cluster.paths import Paths, default_paths
from e2e.cluster.pki import Authority, Identity
from e2e.cluster.process import Daemon
from e2e.cluster.shell import run, wait_for

API = ("etcd", "kube-apiserver")
SCHEDULING = ("kube-controller-manager", "kube-scheduler")
READY_SECONDS = 90


@dataclass(frozen=True)
class Settings:
    """What differs between a test's throw-away API server and a cluster with nodes; ports of 0 are chosen."""

    address: str = "127.0.0.1"
    port: int = 0
    service_cidr: str = "10.96.0.0/16"
    service_hosts: Sequence[str] = ("10.96.0.1",)
    toleration_seconds: int = 5
    node_grace_seconds: int = 10
    extra_arguments: dict[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Ports:
    api: int
    etcd: int
    etcd_peer: int
    controller_manager: int
    scheduler: int


class ControlPlane:
    """Starts and stops the ``components`` with all that they keep below ``folder``."""

    def __init__(
        self,
        folder: Path,
        *,
        components: Sequence[str] = API,
        settings: Settings | None = None,
        paths: Paths | None = None,
        survives: bool = False,
        group: NodeGroup | None = None,
    ) -> None:
        """``survives``: the processes go on when this program ends; else they die with it, however it ends.

        ``group``: where they run, if it matters how they share the machine with nodes.
        """
        self.folder = folder
        self.components = tuple(components)
        self.settings = settings or Settings()
        self.paths = paths or default_paths()
        self.authority = Authority(folder / "pki")
        self.kubeconfig = folder / "kubeconfig"
        self._survives = survives
        self._group = group
        self._daemons: dict[str, Daemon] = {}

    @property
    def url(self) -> str:
        return f"https://{self.settings.address}:{self._ports().api}"

    def start(self) -> None:
        """Starts what isn't running, and returns when the API server is ready. StartError ends with its log."""
        binaries.ensure(self.paths, *self.components, "kubectl")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_credentials()
        if self._group:
            self._group.create()
        for name in self.components:
            self.daemon(name).start()
            if name == "kube-apiserver":
                self._wait_until_ready()

    def stop(self) -> None:
        for name in reversed(self.components):
            self.daemon(name).stop()

    def kill(self, *names: str) -> None:
        """Ends ``names`` (all, if none is given) at once, as a crash would."""
        for name in names or self.components:
            self.daemon(name).kill()

    def forget(self) -> None:
        """Drops all objects: the next start finds an empty cluster, with the same certificates."""
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)

    def running(self) -> bool:
        return all(self.daemon(name).running for name in self.components)

    def ready(self) -> bool:
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", context=context, timeout=5) as reply:
                return bool(reply.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def kubectl(self, *arguments: str | Path, stdin: str | None = None) -> str:
        return run(self.paths.bin / "kubectl", "--kubeconfig", self.kubeconfig, *arguments, stdin=stdin)

    def kubeconfig_for(self, user: str, *, groups: Sequence[str] = (), path: Path | None = None) -> Path:
        """Credentials of another user: without groups it may do only what RBAC grants to that name."""
        name = user.replace(":", "-").replace("/", "-")
        identity = self.authority.sign(f"user-{name}", user=user, groups=groups)
        return self._kubeconfig(path or self.folder / f"{name}.kubeconfig", identity)

    def daemon(self, name: str) -> Daemon:
        if name not in self._daemons:
            argv = [str(self.paths.bin / name), *self._arguments(name)]
            argv += self.settings.extra_arguments.get(name, ())
            argv = list(self._group.joining(argv)) if self._group else argv
            self._daemons[name] = Daemon(name, argv, self.folder, dies_with_parent=not self._survives)
        return self._daemons[name]

    def __enter__(self) -> ControlPlane:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()  # the data is thrown away: nothing is gained by an orderly end

    def _wait_until_ready(self) -> None:
        etcd, api = self.daemon("etcd"), self.daemon("kube-apiserver")

        def ready() -> bool:
            etcd.require_running()
            api.require_running()
            return self.ready()

        wait_for(ready, what="the API server's /readyz", seconds=READY_SECONDS, details=api.log_tail, interval=0.05)

    def _write_credentials(self) -> None:
        self.authority.create()
        self.authority.key_pair("service-accounts")
        if not self.kubeconfig.exists():
            admin = self.authority.sign("admin", user="lmforge-admin", groups=["system:masters"])
            self._kubeconfig(self.kubeconfig, admin)
        for name in SCHEDULING:
            if name in self.components:
                self.kubeconfig_for(f"system:{name}", path=self.folder / f"{name}.kubeconfig")

    def _kubeconfig(self, path: Path, identity: Identity) -> Path:
        return self.authority.kubeconfig(path, server=self.url, identity=identity)

    def _ports(self) -> Ports:
        """Chosen once and kept, so that a second command or a restart finds them."""
        file = self.folder / "ports.json"
        if file.exists():
            return Ports(**json.loads(file.read_text()))
        chosen = free_ports(5)
        ports = Ports(self.settings.port or chosen[0], *chosen[1:])
        self.folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(ports)))
        return ports

    def _arguments(self, name: str) -> Sequence[str]:
        ports = self._ports()
        match name:
            case "etcd":
                return self._etcd(ports)
            case "kube-apiserver":
                return self._api_server(ports)
            case "kube-controller-manager":
                return self._controller_manager(ports)
            case "kube-scheduler":
                return [f"--kubeconfig={self.folder / 'kube-scheduler.kubeconfig'}", *_local(ports.scheduler)]
            case "kwok":
                return [f"--kubeconfig={self.kubeconfig}", "--manage-all-nodes=true", "--node-lease-duration-seconds=0"]
            case _:
                raise ValueError(f"no component {name!r}")

    def _etcd(self, ports: Ports) -> Sequence[str]:
        client, peer = f"http://127.0.0.1:{ports.etcd}", f"http://127.0.0.1:{ports.etcd_peer}"
        return [
            f"--data-dir={self.folder / 'etcd'}",
            *(f"--listen-client-urls={client}", f"--advertise-client-urls={client}"),
            *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"),
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",  # the data is as short-lived as the processes
        ]

    def _api_server(self, ports: Ports) -> Sequence[str]:
        hosts = ["localhost", "127.0.0.1", self.settings.address, *self.settings.service_hosts]
        server = self.authority.sign("kube-apiserver", user="kube-apiserver", hosts=sorted(set(hosts)))
        kubelet = self.authority.sign("kubelet-client", user="kube-apiserver-kubelet", groups=["system:masters"])
        accounts = self.authority.key_pair("service-accounts")
        return [
            f"--etcd-servers=http://127.0.0.1:{ports.etcd}",
            *(f"--secure-port={ports.api}", f"--bind-address={self.settings.address}"),
            f"--advertise-address={self.settings.address}",
            f"--service-cluster-ip-range={self.settings.service_cidr}",
            *(f"--tls-cert-file={server.certificate}", f"--tls-private-key-file={server.key}"),
            f"--client-ca-file={self.authority.certificate}",
            "--authorization-mode=Node,RBAC",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            *(
                f"--service-account-key-file={accounts.certificate}",
                f"--service-account-signing-key-file={accounts.key}",
            ),
            *(f"--kubelet-client-certificate={kubelet.certificate}", f"--kubelet-client-key={kubelet.key}"),
            "--kubelet-preferred-address-types=InternalIP",
            f"--default-not-ready-toleration-seconds={self.settings.toleration_seconds}",
            f"--default-unreachable-toleration-seconds={self.settings.toleration_seconds}",
            "--allow-privileged=true",
            "--enable-admission-plugins=NodeRestriction",
            *([] if "kube-controller-manager" in self.components else ["--disable-admission-plugins=ServiceAccount"]),
        ]

    def _controller_manager(self, ports: Ports) -> Sequence[str]:
        accounts = self.authority.key_pair("service-accounts")
        return [
            f"--kubeconfig={self.folder / 'kube-controller-manager.kubeconfig'}",
            *_local(ports.controller_manager),
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={accounts.key}",
            f"--root-ca-file={self.authority.certificate}",
            f"--node-monitor-grace-period={self.settings.node_grace_seconds}s",
            "--node-monitor-period=2s",
            "--terminated-pod-gc-threshold=1000",
        ]


def _local(port: int) -> Sequence[str]:
    return ["--bind-address=127.0.0.1", f"--secure-port={port}", "--leader-elect=false"]


def free_ports(count: int) -> Sequence[int]:
    """Ports that nobody listens on, below those that clients are given.

    A client of a server that is down for a moment could otherwise be given the server's own port, and keep it.
    """
    candidates = random.sample(range(20_000, 32_768), k=64)
    free = [port for port in candidates if _is_free(port)]
    return free[:count]


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) != 0
