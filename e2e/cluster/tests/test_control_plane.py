"""What integration tests rely on: an API server of their own within seconds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.errors import CommandFailed

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("control-plane")) as started:
        yield started


def test_two_run_side_by_side(control_plane: ControlPlane, tmp_path: Path) -> None:
    with ControlPlane(tmp_path / "second") as second:
        second.kubectl("create", "namespace", "only-here")
        assert "only-here" not in control_plane.kubectl("get", "namespaces")


def test_its_data_survives_a_crash(control_plane: ControlPlane) -> None:
    control_plane.kubectl("create", "configmap", "kept")
    control_plane.kill()
    assert not control_plane.running()
    control_plane.start()
    assert "kept" in control_plane.kubectl("get", "configmaps")


def test_another_user_may_do_nothing_that_it_was_not_granted(control_plane: ControlPlane) -> None:
    kubeconfig = control_plane.kubeconfig_for("system:serviceaccount:default:someone")
    with pytest.raises(CommandFailed, match="Forbidden"):
        control_plane.kubectl("get", "secrets", "--kubeconfig", kubeconfig)


def test_a_token_for_one_audience_is_refused_for_another(control_plane: ControlPlane) -> None:
    control_plane.kubectl("create", "serviceaccount", "reporter")
    token = control_plane.kubectl("create", "token", "reporter", "--audience", "run-1").strip()

    def accepted(audience: str) -> bool:
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        }
        reply = control_plane.kubectl("create", "-o", "json", "-f", "-", stdin=yaml.safe_dump(review))
        return bool(json.loads(reply)["status"].get("authenticated", False))

    assert accepted("run-1")
    assert not accepted("run-2")
