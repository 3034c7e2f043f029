"""Controllers that others have written, for as long as a scenario or a bench needs them: their definitions, their
webhooks, and the controller as a process here.

Their images can't be had without a registry of images, so the program is compiled from its Go module, and the API
server finds its webhooks by address instead of through a Service.
"""

from __future__ import annotations

import base64
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import binaries
from e2e.cluster.control_plane import ControlPlane, free_ports
from e2e.cluster.process import Daemon
from e2e.cluster.shell import wait_for

Manifest = dict[str, Any]
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Source:
    """What a controller is compiled from, and what it installs: paths are below its module's config/."""

    program: str
    module: str
    definitions: str
    webhooks: str
    configuration: str
    """API version of its configuration file. All that are used here understand the same few settings."""

    @property
    def files(self) -> Path:
        return binaries.files_of(self.module, program=self.program) / "config"


@dataclass
class Manager:
    """A controller's process beside this control plane; `folder` holds its configuration, certificate and log."""

    source: Source
    control_plane: ControlPlane
    folder: Path
    flags: tuple[str, ...] = ()
    settings: Manifest = field(default_factory=dict)
    """Those that not all have."""
    port: int = field(init=False)
    """Of its webhooks."""

    def __post_init__(self) -> None:
        self.port, self._health_port = free_ports(2)

    @property
    def certificates(self) -> Path:
        """Where it looks for what it shows to those who call its webhooks."""
        return self.folder / "certificates"

    @property
    def configuration(self) -> Path:
        return self.folder / "config.yaml"

    @cached_property
    def daemon(self) -> Daemon:
        program = self.source.program
        argv = [str(self.control_plane.paths.bin / program), f"--config={self.configuration}", *self.flags]
        environment = {"KUBECONFIG": str(self.control_plane.kubeconfig)}
        return Daemon(program, argv, self.folder, environment, dies_with_parent=True)

    def prepare(self) -> None:
        """Compiles it, and writes its configuration."""
        binaries.ensure(self.control_plane.paths, self.source.program)
        settings = {
            "apiVersion": self.source.configuration,
            "kind": "Configuration",
            "webhook": {"host": HOST, "port": self.port, "certDir": str(self.certificates)},
            "health": {"healthProbeBindAddress": f"{HOST}:{self._health_port}"},
            "metrics": {"bindAddress": "0"},
            "leaderElection": {"leaderElect": False},
            "internalCertManagement": {"enable": False},
        }
        self.certificates.mkdir(parents=True, exist_ok=True)
        self.configuration.write_text(yaml.safe_dump(settings | self.settings))

    def start(self) -> None:
        """Returns when its webhooks answer."""
        self.daemon.start()
        self.wait_until(self._answers, what=self.source.program)

    def stop(self) -> None:
        self.daemon.stop()

    def wait_until(self, holds: Callable[[], bool], *, what: str) -> None:
        """StartError when it ends before that, or takes longer than a minute."""

        def holds_while_it_runs() -> bool:
            self.daemon.require_running()
            return holds()

        wait_for(holds_while_it_runs, what=what, seconds=60, details=self.daemon.log_tail)

    def _answers(self) -> bool:
        try:
            socket.create_connection((HOST, self.port), timeout=1).close()
        except OSError:
            return False
        return True


@dataclass
class Controller:
    """One that takes its certificate from us, and whose webhooks can be called by address."""

    source: Source
    control_plane: ControlPlane
    folder: Path
    flags: tuple[str, ...] = ()
    _webhooks: list[Manifest] = field(default_factory=list, init=False)

    @cached_property
    def manager(self) -> Manager:
        return Manager(self.source, self.control_plane, self.folder, self.flags)

    @property
    def daemon(self) -> Daemon:
        return self.manager.daemon

    def install(self) -> None:
        """Its definitions, the running controller, and then its webhooks: nobody must ask them before they answer."""
        self.manager.prepare()
        kubectl = self.control_plane.kubectl
        kubectl("apply", "--server-side", "-f", self.source.files / self.source.definitions)
        self._webhooks = self._addressed(kubectl("kustomize", self.source.files / self.source.webhooks))
        self._certify()
        self.start()
        kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(self._webhooks))

    def uninstall(self) -> None:
        """Takes it away again, with all that it made."""
        kubectl = self.control_plane.kubectl
        if self._webhooks:
            kubectl("delete", "--ignore-not-found", "-f", "-", stdin=yaml.safe_dump_all(self._webhooks))
        kubectl("delete", "--ignore-not-found", "-f", self.source.files / self.source.definitions)
        self.stop()

    def start(self) -> None:
        """Returns when it answers."""
        self.manager.start()

    def stop(self) -> None:
        self.manager.stop()

    def _certify(self) -> None:
        program = self.source.program
        identity = self.control_plane.authority.sign(program, user=program, hosts=[HOST])
        shutil.copy(identity.certificate, self.manager.certificates / "tls.crt")
        shutil.copy(identity.key, self.manager.certificates / "tls.key")

    def _addressed(self, text: str) -> list[Manifest]:
        """The module's own webhooks, but for where they are called."""
        authority = base64.b64encode(self.control_plane.authority.certificate.read_bytes()).decode()
        found = [each for each in yaml.safe_load_all(text) if each["kind"].endswith("WebhookConfiguration")]
        for configuration in found:
            configuration["metadata"] = {"name": f"{self.source.program}-{configuration['metadata']['name']}"}
            for webhook in configuration["webhooks"]:
                path = webhook["clientConfig"]["service"]["path"]
                webhook["clientConfig"] = {"url": f"https://{HOST}:{self.manager.port}{path}", "caBundle": authority}
        return found
