"""Install, upgrade, uninstall and install again, on a real API server with its controllers (and no nodes)."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from apiserver import wait_until_established

from e2e.cluster.control_plane import API, ControlPlane
from e2e.cluster.errors import CommandFailed
from e2e.cluster.shell import wait_for
from lmforge_api.base import API_VERSION

pytestmark = pytest.mark.integration

CHART = Path(__file__).resolve().parents[3] / "charts/lmforge"
SYSTEM = "lmforge-system"
SPEC = {"model": {"init": {}}, "dataset": {"uri": "pvc://corpus/text"}}
API_PORT = 16443
API_ENDPOINT = {
    # An API server on a loopback address, as here, does not say where it is.
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {"name": "kubernetes", "namespace": "default"},
    "addressType": "IPv4",
    "endpoints": [{"addresses": ["10.0.0.1"]}],
    "ports": [{"name": "https", "port": API_PORT}],
}
STORE = ("--set", "storage.namespaces={research}")


class Site:
    """A cluster, helm and kubectl."""

    def __init__(self, control_plane: ControlPlane, helm: Any) -> None:
        self.control_plane = control_plane
        self.kubectl = control_plane.kubectl
        self._helm = helm
        self._kubeconfig = control_plane.kubeconfig

    def upgrade(self, *arguments: str, chart: Path = CHART) -> str:
        return self.helm("upgrade", "--install", "lmforge", chart, "--create-namespace", *arguments)

    def helm(self, *arguments: str | Path) -> str:
        return str(self._helm(*arguments, "--kubeconfig", self._kubeconfig, "--namespace", SYSTEM))

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def exists(self, *arguments: str) -> bool:
        try:
            self.kubectl("get", *arguments)
        except CommandFailed as error:
            if "NotFound" not in str(error) and "doesn't have a resource type" not in str(error):
                raise
            return False
        return True

    def run_a_job(self) -> None:
        manifest = {"apiVersion": API_VERSION, "kind": "TrainingJob", "metadata": {"name": "tiny"}, "spec": SPEC}
        self.kubectl("apply", "-n", "research", "-f", "-", stdin=json.dumps(manifest))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, helm: Any) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("lifecycle")
    with ControlPlane(folder, components=(*API, "kube-controller-manager")) as control_plane:
        site = Site(control_plane, helm)
        site.kubectl("create", "namespace", "research")
        site.kubectl("apply", "-f", "-", stdin=json.dumps(API_ENDPOINT))
        yield site


@pytest.fixture
def older_chart(tmp_path: Path) -> Path:
    """The chart as it was before the field `seed` was added."""
    chart = shutil.copytree(CHART, tmp_path / "lmforge")
    file = chart / "files/crds/lmforge.dev_trainingjobs.yaml"
    crd = yaml.safe_load(file.read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    del spec["properties"]["seed"]
    rules = spec["x-kubernetes-validations"]
    spec["x-kubernetes-validations"] = [rule for rule in rules if "self.seed" not in rule["rule"]]
    file.write_text(yaml.safe_dump(crd, sort_keys=False))
    return chart


def test_a_life(site: Site, older_chart: Path) -> None:
    """In one story, since each step begins where the last one ended."""
    # Installed
    site.upgrade(*STORE, chart=older_chart)
    wait_until_established(site.control_plane)
    site.run_a_job()
    assert "seed" not in site.get("tj", "tiny", "-n", "research")["spec"]
    secret = site.get("secret", "lmforge-reports-tls", "-n", SYSTEM)["data"]

    egress = site.get("networkpolicy", "lmforge-operator", "-n", SYSTEM)["spec"]["egress"]
    assert API_PORT in [port["port"] for peer in egress for port in peer["ports"]]

    # Upgraded: definitions follow, the certificate stays
    notes = site.upgrade(*STORE, "--set", "replicas=3")
    assert "leaves the custom resource definitions" in notes
    wait_for(
        lambda: site.get("tj", "tiny", "-n", "research")["spec"].get("seed") == 0, what="the new field", seconds=30
    )
    assert site.get("deployment", "lmforge-operator", "-n", SYSTEM)["spec"]["replicas"] == 3
    assert site.get("secret", "lmforge-reports-tls", "-n", SYSTEM)["data"] == secret

    # Uninstalled: objects and stores stay, and can be deleted without the operator
    site.helm("uninstall", "lmforge", "--wait")
    assert site.exists("tj", "tiny", "-n", "research")
    assert site.exists("pvc", "lmforge-store", "-n", "research")
    assert not site.exists("deployment", "lmforge-operator", "-n", SYSTEM)
    site.kubectl("delete", "tj", "tiny", "-n", "research", "--timeout=20s")
    site.kubectl("delete", "namespace", SYSTEM, "--timeout=60s")

    # Installed again, over the definitions and the store that stayed
    assert "with them ALL objects of its kinds" in site.upgrade(*STORE, "--set", "crds.keep=false")
    site.run_a_job()

    # Uninstalled with everything: only the store stays, and nothing gets stuck
    site.helm("uninstall", "lmforge", "--wait")
    wait_for(lambda: not site.exists("crd", "trainingjobs.lmforge.dev"), what="the definitions' end", seconds=30)
    assert site.exists("pvc", "lmforge-store", "-n", "research")
    site.kubectl("delete", "namespace", SYSTEM, "research", "--timeout=60s")
