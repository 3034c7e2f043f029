"""A certificate authority of the cluster's own, and the certificates that Kubernetes' parts show each other."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import yaml

from e2e.cluster.shell import locked, run

# openssl's own configuration would mark every certificate as an authority.
OPENSSL_CONFIG = "[req]\ndistinguished_name = name\n[name]\n"
NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650")


@dataclass(frozen=True)
class Identity:
    """A certificate and its private key, as files."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Authority:
    """Signs certificates, and keeps each under its name: asking again gives the one that is there."""

    folder: Path

    @property
    def certificate(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def key(self) -> Path:
        return self.folder / "ca.key"

    def create(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        (self.folder / "openssl.cnf").write_text(OPENSSL_CONFIG)
        own = Identity(self.certificate, self.key)
        with self._alone():
            if not self.certificate.exists():
                self._request(own, "/CN=lmforge-ca", ["basicConstraints=critical,CA:TRUE"])

    def sign(self, name: str, *, user: str, groups: Sequence[str] = (), hosts: Sequence[str] = ()) -> Identity:
        """A certificate for ``user`` in ``groups`` (to Kubernetes: CN and O), valid for ``hosts`` as a server's."""
        identity = Identity(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        subject = "".join(f"/O={group}" for group in groups) + f"/CN={user}"
        extensions = ["basicConstraints=critical,CA:FALSE", "extendedKeyUsage=clientAuth,serverAuth"]
        if hosts:
            extensions.append("subjectAltName=" + ",".join(_alternative_name(host) for host in hosts))
        with self._alone():
            if not identity.certificate.exists():
                self._request(identity, subject, extensions, "-CA", str(self.certificate), "-CAkey", str(self.key))
        return identity

    def key_pair(self, name: str) -> Identity:
        """A private key and its public key, for signing service account tokens."""
        pair = Identity(self.folder / f"{name}.pub", self.folder / f"{name}.key")
        with self._alone():
            if not pair.certificate.exists():
                run("openssl", "genrsa", "-out", pair.key, "2048")
                public = run("openssl", "rsa", "-in", pair.key, "-pubout")
                new = pair.certificate.with_suffix(".new")
                new.write_text(public)
                new.rename(pair.certificate)
        return pair

    def kubeconfig(self, path: Path, *, server: str, identity: Identity, namespace: str = "default") -> Path:
        """Writes a kubeconfig with the certificates inside, so that it works wherever it is copied."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "lmforge",
            "contexts": [
                {"name": "lmforge", "context": {"cluster": "lmforge", "user": "lmforge", "namespace": namespace}}
            ],
            "clusters": [
                {
                    "name": "lmforge",
                    "cluster": {"server": server, "certificate-authority-data": _encoded(self.certificate)},
                }
            ],
            "users": [
                {
                    "name": "lmforge",
                    "user": {
                        "client-certificate-data": _encoded(identity.certificate),
                        "client-key-data": _encoded(identity.key),
                    },
                }
            ],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        return path

    def _alone(self) -> AbstractContextManager[None]:
        """Two nodes that start at once ask for the same certificate: one's key must not meet the other's."""
        return locked(self.folder / ".lock")

    def _request(self, identity: Identity, subject: str, extensions: Sequence[str], *signer: str) -> None:
        new = identity.certificate.with_suffix(".new")  # renamed when whole: a crash leaves nothing half made
        added = [word for extension in extensions for word in ("-addext", extension)]
        config = str(self.folder / "openssl.cnf")
        command: list[str | Path] = ["openssl", "req", "-x509", "-config", config, *NEW_KEY, "-subj", subject, *added]
        run(*command, *signer, "-keyout", identity.key, "-out", new)
        new.rename(identity.certificate)


def _alternative_name(host: str) -> str:
    return f"IP:{host}" if host.replace(".", "").isdigit() else f"DNS:{host}"


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
