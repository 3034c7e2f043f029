"""Where the API server is and who we are to it: a kubeconfig, or the pod's own service account.

Simple credentials (certificates, tokens) are read directly. Only a kubeconfig with an exec plug-in or an auth provider
brings in the official client, which would cost every operator pod 20 MiB otherwise.
"""

import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from time import monotonic

import kopf
import yaml

from lmforge_operator.errors import SettingsError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_LIFETIME_SECONDS = 60.0
"""Projected tokens are rotated by kubelet long before they expire; a minute is soon enough to notice."""


@dataclass(frozen=True)
class Connection:
    """How to reach the API server."""

    info: kopf.ConnectionInfo
    read_token: Callable[[], str] | None = None
    namespace: str = "default"

    @property
    def server(self) -> str:
        return self.info.server.rstrip("/")

    @cached_property
    def ssl(self) -> ssl.SSLContext | None:
        context = self.info.as_ssl_context() if self.server.startswith("https:") else None
        return context or None

    def fresh(self) -> kopf.ConnectionInfo:
        """The credentials with the token as it is now, for kopf."""
        return replace(self.info, token=self.read_token()) if self.read_token else self.info

    def authorization(self) -> "Authorization":
        return Authorization(self)


class Authorization:
    """The header that says who we are, fresh after a rotation."""

    def __init__(self, connection: Connection, *, clock: Callable[[], float] = monotonic) -> None:
        self._connection = connection
        self._clock = clock
        self._read = -TOKEN_LIFETIME_SECONDS
        self._headers: dict[str, str] = {}

    def headers(self) -> dict[str, str]:
        if self._clock() - self._read >= TOKEN_LIFETIME_SECONDS:
            self._read = self._clock()
            self._headers = self._current()
        return self._headers

    def _current(self) -> dict[str, str]:
        if self._connection.read_token is not None:
            return {"Authorization": f"Bearer {self._connection.read_token()}"}
        return dict(self._connection.info.as_http_headers() or {})


def connect(kubeconfig: str | None = None, *, context: str | None = None) -> Connection:
    """From the file that is named, else from inside the cluster, else from $KUBECONFIG or ~/.kube/config."""
    if kubeconfig is None and (SERVICE_ACCOUNT / "token").exists():
        return in_cluster()
    path = Path(kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config").expanduser()
    if not path.exists():
        raise SettingsError(f"There is no kubeconfig at {path}: pass --kubeconfig, or run inside a cluster.")
    return from_kubeconfig(path, context=context)


def in_cluster() -> Connection:
    """The service account of this pod."""

    def read_token() -> str:
        return (SERVICE_ACCOUNT / "token").read_text().strip()

    host = os.environ.get("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc")
    host = f"[{host}]" if ":" in host else host
    info = kopf.ConnectionInfo(
        server=f"https://{host}:{os.environ.get('KUBERNETES_SERVICE_PORT', '443')}",
        ca_path=str(SERVICE_ACCOUNT / "ca.crt"),
        token=read_token(),
    )
    return Connection(info, read_token, (SERVICE_ACCOUNT / "namespace").read_text().strip())


def from_kubeconfig(path: Path, *, context: str | None = None) -> Connection:
    """The current (or the named) context of a kubeconfig."""
    config = yaml.safe_load(path.read_text()) or {}
    wanted = context or config.get("current-context")
    chosen = _named(config, "contexts", wanted, "context", path)
    cluster = _named(config, "clusters", chosen.get("cluster"), "cluster", path)
    user = _named(config, "users", chosen.get("user"), "user", path)
    namespace = chosen.get("namespace") or "default"
    if "exec" in user or "auth-provider" in user:
        return _by_official_client(path, context=wanted, namespace=namespace)
    return Connection(_info(cluster, user, path.parent), namespace=namespace)


def _named(config: dict[str, object], section: str, name: object, field: str, path: Path) -> dict[str, str]:
    entries = config.get(section)
    for entry in entries if isinstance(entries, list) else []:
        if entry.get("name") == name:
            return dict(entry.get(field) or {})
    raise SettingsError(f"{path} has no {field} named {name!r}.")


def _info(cluster: dict[str, str], user: dict[str, str], folder: Path) -> kopf.ConnectionInfo:
    def located(value: str | None) -> str | None:
        return str(folder / value) if value else None

    return kopf.ConnectionInfo(
        server=cluster["server"],
        ca_path=located(cluster.get("certificate-authority")),
        ca_data=cluster.get("certificate-authority-data"),
        insecure=bool(cluster.get("insecure-skip-tls-verify")) or None,
        certificate_path=located(user.get("client-certificate")),
        certificate_data=user.get("client-certificate-data"),
        private_key_path=located(user.get("client-key")),
        private_key_data=user.get("client-key-data"),
        username=user.get("username"),
        password=user.get("password"),
        token=user.get("token"),
    )


def _by_official_client(path: Path, *, context: str | None, namespace: str) -> Connection:
    from kubernetes import client, config

    loaded = client.Configuration()
    load: Callable[..., None] = config.load_kube_config
    load(str(path), context=context, client_configuration=loaded)

    def read_token() -> str:
        header = loaded.get_api_key_with_prefix("BearerToken") or loaded.get_api_key_with_prefix("authorization")
        return str(header or "").removeprefix("Bearer ")

    info = kopf.ConnectionInfo(
        server=loaded.host,
        ca_path=loaded.ssl_ca_cert,
        insecure=not loaded.verify_ssl or None,
        certificate_path=loaded.cert_file,
        private_key_path=loaded.key_file,
        token=read_token() or None,
    )
    return Connection(info, read_token if read_token() else None, namespace)
