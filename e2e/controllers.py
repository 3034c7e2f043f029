"""Controllers that others have written, for as long as a scenario or a bench needs them: their definitions, their
webhooks, and the controller as a process here.

Their images can't be had without a registry of images, so the program is compiled from its Go module, and the API
server finds its webhooks by address instead of through a Service.
"""

from __future__ import annotations

import base64
import shutil
import socket
from dataclasses import dataclass, field
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


@dataclass
class Controller:
    """One of them, beside this control plane; `folder` holds its configuration, certificate and log."""

    source: Source
    control_plane: ControlPlane
    folder: Path
    flags: tuple[str, ...] = ()
    _webhooks: list[Manifest] = field(default_factory=list, init=False)
    _daemon: Daemon | None = field(default=None, init=False)
    _port: int = field(default=0, init=False)

    def install(self) -> None:
        """Its definitions, the running controller, and then its webhooks: nobody must ask them before they answer."""
        binaries.ensure(self.control_plane.paths, self.source.program)
        kubectl = self.control_plane.kubectl
        kubectl("apply", "--server-side", "-f", self._files / self.source.definitions)
        port, health_port = free_ports(2)
        self._webhooks = self._addressed(kubectl("kustomize", self._files / self.source.webhooks), port)
        self._configure(port, health_port)
        self.start()
        kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(self._webhooks))

    def uninstall(self) -> None:
        """Takes it away again, with all that it made."""
        kubectl = self.control_plane.kubectl
        if self._webhooks:
            kubectl("delete", "--ignore-not-found", "-f", "-", stdin=yaml.safe_dump_all(self._webhooks))
        kubectl("delete", "--ignore-not-found", "-f", self._files / self.source.definitions)
        self.stop()

    def start(self) -> None:
        """Returns when it answers."""
        daemon = self.daemon
        daemon.start()
        wait_for(self._answers, what=self.source.program, seconds=60, details=daemon.log_tail)

    def stop(self) -> None:
        if self._daemon is not None:
            self._daemon.stop()

    @property
    def daemon(self) -> Daemon:
        assert self._daemon is not None, f"{self.source.program} is not installed"
        return self._daemon

    @property
    def _files(self) -> Path:
        return binaries.files_of(self.source.module, program=self.source.program) / "config"

    def _configure(self, port: int, health_port: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        program = self.source.program
        identity = self.control_plane.authority.sign(program, user=program, hosts=[HOST])
        shutil.copy(identity.certificate, self.folder / "tls.crt")
        shutil.copy(identity.key, self.folder / "tls.key")
        settings = {
            "apiVersion": self.source.configuration,
            "kind": "Configuration",
            "webhook": {"host": HOST, "port": port, "certDir": str(self.folder)},
            "health": {"healthProbeBindAddress": f"{HOST}:{health_port}"},
            "metrics": {"bindAddress": "0"},
            "leaderElection": {"leaderElect": False},
            "internalCertManagement": {"enable": False},
        }
        configuration = self.folder / "config.yaml"
        configuration.write_text(yaml.safe_dump(settings))
        argv = [str(self.control_plane.paths.bin / program), f"--config={configuration}", *self.flags]
        environment = {"KUBECONFIG": str(self.control_plane.kubeconfig)}
        self._daemon = Daemon(program, argv, self.folder, environment, dies_with_parent=True)
        self._port = port

    def _addressed(self, text: str, port: int) -> list[Manifest]:
        """The module's own webhooks, but for where they are called."""
        authority = base64.b64encode(self.control_plane.authority.certificate.read_bytes()).decode()
        found = [each for each in yaml.safe_load_all(text) if each["kind"].endswith("WebhookConfiguration")]
        for configuration in found:
            configuration["metadata"] = {"name": f"{self.source.program}-{configuration['metadata']['name']}"}
            for webhook in configuration["webhooks"]:
                path = webhook["clientConfig"]["service"]["path"]
                webhook["clientConfig"] = {"url": f"https://{HOST}:{port}{path}", "caBundle": authority}
        return found

    def _answers(self) -> bool:
        self.daemon.require_running()
        try:
            socket.create_connection((HOST, self._port), timeout=1).close()
        except OSError:
            return False
        return True
