"""Reading kubeconfigs."""

import base64
from pathlib import Path

import pytest
import yaml

from lmforge_operator.errors import SettingsError
from lmforge_operator.kube.connection import Authorization, Connection, connect, from_kubeconfig


def kubeconfig(folder: Path, credentials: dict[str, object], **context: str) -> Path:
    path = folder / "config"
    content = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"} | context}],
        "clusters": [{"name": "c", "cluster": {"server": "https://api.example:6443/", "certificate-authority": "ca"}}],
        "users": [{"name": "u", "user": credentials}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_token_becomes_a_header(tmp_path: Path) -> None:
    connection = from_kubeconfig(kubeconfig(tmp_path, {"token": "secret"}, namespace="ns"))
    assert connection.server == "https://api.example:6443"
    assert connection.namespace == "ns"
    assert connection.authorization().headers() == {"Authorization": "Bearer secret"}


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    connection = from_kubeconfig(kubeconfig(tmp_path, {"client-certificate": "me.crt", "client-key": "/abs/me.key"}))
    assert connection.info.ca_path == str(tmp_path / "ca")
    assert connection.info.certificate_path == str(tmp_path / "me.crt")
    assert connection.info.private_key_path == "/abs/me.key"


def test_certificates_may_be_in_the_file(tmp_path: Path) -> None:
    data = base64.b64encode(b"pem").decode()
    connection = from_kubeconfig(kubeconfig(tmp_path, {"client-certificate-data": data, "client-key-data": data}))
    assert connection.info.certificate_data == data


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, {}, user="nobody")
    with pytest.raises(SettingsError, match="no user named 'nobody'"):
        from_kubeconfig(path)
    with pytest.raises(SettingsError, match="There is no kubeconfig at"):
        connect(str(tmp_path / "none"))


def test_a_rotated_token_is_read_again_after_a_minute(tmp_path: Path) -> None:
    info = from_kubeconfig(kubeconfig(tmp_path, {})).info
    tokens = iter(["first", "second"])
    now = 0.0
    authorization = Authorization(Connection(info, lambda: next(tokens)), clock=lambda: now)
    assert authorization.headers() == {"Authorization": "Bearer first"}
    now = 59.0
    assert authorization.headers() == {"Authorization": "Bearer first"}
    now = 61.0
    assert authorization.headers() == {"Authorization": "Bearer second"}
