"""An API server as tests see it."""

import http.client
import json
import ssl
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.shell import wait_for
from lmforge_operator.manifests import Manifest


@dataclass(frozen=True)
class Reply:
    """An answer of the API server."""

    status: int
    body: Manifest

    @property
    def ok(self) -> bool:
        return self.status < 300

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))


def wait_until_established(control_plane: ControlPlane) -> None:
    """Until all definitions are served. (`kubectl wait` fails on one that is so new that it has no conditions.)"""

    def established() -> bool:
        found = json.loads(control_plane.kubectl("get", "crds", "-o", "json"))["items"]
        conditions = [crd.get("status", {}).get("conditions") or [] for crd in found]
        return all(
            {"Established": "True"}.items() <= {c["type"]: c["status"] for c in each}.items() for each in conditions
        )

    wait_for(established, what="the CRDs", seconds=30)


class ApiServer:
    """The API server, reached by kubectl or (many times faster) by plain requests on one connection."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self.control_plane = control_plane
        self.kubeconfig = control_plane.kubeconfig
        admin = control_plane.authority.sign("admin", user="lmforge-admin", groups=["system:masters"])
        self._context = ssl.create_default_context(cafile=str(control_plane.authority.certificate))
        self._context.load_cert_chain(admin.certificate, admin.key)
        self._connection = self._connect()

    def _connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self.control_plane.url.removeprefix("https://"), context=self._context)

    def kubectl(self, *arguments: str | Path, stdin: str | None = None) -> str:
        """What kubectl prints. CommandFailed, with what it says, when it fails."""
        return self.control_plane.kubectl(*arguments, stdin=stdin)

    def ensure_namespace(self, name: str) -> None:
        """Makes it if it isn't there. It can't be deleted: nobody collects garbage here."""
        self.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})

    def request(self, method: str, path: str, body: Manifest | None = None, *, content_type: str = "json") -> Reply:
        """One request, e.g. `request("POST", "/api/v1/namespaces", {...})`. Tries again on a connection that closed."""
        data = json.dumps(body) if body is not None else None
        headers = {"Content-Type": f"application/{content_type}"}
        try:
            self._connection.request(method, path, data, headers)
            response = self._connection.getresponse()
        except (http.client.HTTPException, OSError):
            self._connection = self._connect()
            self._connection.request(method, path, data, headers)
            response = self._connection.getresponse()
        return Reply(response.status, json.loads(response.read()))
