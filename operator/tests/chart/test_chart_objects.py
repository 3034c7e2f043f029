"""What the chart makes: hardened pods, few rights, and definitions that survive an uninstall."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster.errors import CommandFailed
from e2e.cluster.shell import run
from lmforge_api.crd import definition, files
from lmforge_api.kinds import KINDS

pytestmark = pytest.mark.integration

NAMESPACE = "lmforge-system"


def pod_spec(objects: Any) -> dict[str, Any]:
    spec: dict[str, Any] = objects["Deployment", "lmforge-operator"]["spec"]["template"]["spec"]
    return spec


def test_the_api_server_takes_every_object_with_any_values(render: Any, api_server: Any) -> None:
    everything = {
        "storage": {"namespaces": [NAMESPACE], "storageClass": "fast"},
        "watchNamespaces": ["default"],
        "priorityClassName": "system-cluster-critical",
        "podLabels": {"team": "ml"},
        "podAnnotations": {"example.org/a": "b"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "serviceAccount": {"annotations": {"example.org/role": "x"}},
        "networkPolicy": {"metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]},
        "images": {"pullSecrets": ["registry"]},
        "resources": {"limits": {"cpu": "2"}},
        "argocd": {"healthChecks": True},
    }
    api_server.ensure_namespace(NAMESPACE)
    for values in ({}, everything):
        manifests = {"apiVersion": "v1", "kind": "List", "items": list(render(values).values())}
        api_server.kubectl(
            "apply", "--server-side", "--dry-run=server", "--validate=strict", "--force-conflicts", "-f", "-",
            stdin=json.dumps(manifests),
        )  # fmt: skip


def test_operator_pods_are_hardened_and_spread(render: Any) -> None:
    objects = render()
    spec = pod_spec(objects)
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 65532
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"] == {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert spec["topologySpreadConstraints"][0]["topologyKey"] == "kubernetes.io/hostname"
    assert objects["Deployment", "lmforge-operator"]["spec"]["replicas"] == 2
    assert objects["PodDisruptionBudget", "lmforge-operator"]["spec"]["maxUnavailable"] == 1
    assert ("PodDisruptionBudget", "lmforge-operator") not in render({"replicas": 1})


def test_selectors_find_the_operators_pods(render: Any) -> None:
    objects = render({"metrics": {"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}}})
    deployment = objects["Deployment", "lmforge-operator"]
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    for selector in (
        deployment["spec"]["selector"]["matchLabels"],
        objects["Service", "lmforge-reports"]["spec"]["selector"],
        objects["Service", "lmforge-metrics"]["spec"]["selector"],
        objects["PodDisruptionBudget", "lmforge-operator"]["spec"]["selector"]["matchLabels"],
        objects["NetworkPolicy", "lmforge-operator"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels
    monitor = objects["ServiceMonitor", "lmforge"]
    service = objects["Service", "lmforge-metrics"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert ("ServiceMonitor", "lmforge") not in render()


def test_a_change_of_settings_restarts_the_operator_and_nothing_else_does(render: Any) -> None:
    def settings_hash(values: dict[str, Any]) -> str:
        template = render(values)["Deployment", "lmforge-operator"]["spec"]["template"]
        return str(template["metadata"]["annotations"]["lmforge.dev/settings-hash"])

    assert settings_hash({}) == settings_hash({"replicas": 3})
    assert settings_hash({}) != settings_hash({"settings": {"logLevel": "DEBUG"}})


def test_definitions_are_the_generated_ones_and_kept_unless_said_otherwise(render: Any) -> None:
    for kind in KINDS:
        crd = render()["CustomResourceDefinition", kind.crd_name]
        assert crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
        assert crd["spec"] == yaml.safe_load(yaml.safe_dump(definition(kind)["spec"]))
        loose = render({"crds": {"keep": False}})["CustomResourceDefinition", kind.crd_name]
        assert "annotations" not in loose["metadata"]
    assert not [key for key in render({"crds": {"install": False}}) if key[0] == "CustomResourceDefinition"]
    assert len(files()) == len(KINDS)


def test_rights_are_named_verb_by_verb(render: Any) -> None:
    roles = [manifest for (kind, _), manifest in render().items() if kind in ("Role", "ClusterRole")]
    for rule in (rule for role in roles for rule in role["rules"]):
        assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
        assert "secrets" not in rule["resources"]


def test_watching_some_namespaces_gives_rights_in_these_alone(render: Any) -> None:
    objects = render({"watchNamespaces": ["research"]})
    cluster = objects["ClusterRole", "lmforge-system:lmforge-operator"]["rules"]
    assert {resource for rule in cluster for resource in rule["resources"]} == {"tokenreviews", "nodes"}
    assert objects["Role", "lmforge-operator"]["metadata"]["namespace"] == "research"
    assert objects["RoleBinding", "lmforge-operator"]["subjects"][0]["namespace"] == NAMESPACE


def test_the_certificate_names_the_service_that_pods_report_to(render: Any, tmp_path: Path) -> None:
    data = render()["Secret", "lmforge-reports-tls"]["data"]
    for name, content in data.items():
        (tmp_path / name).write_bytes(base64.b64decode(content))
    run("openssl", "verify", "-CAfile", tmp_path / "ca.crt", tmp_path / "tls.crt")
    text = run("openssl", "x509", "-in", tmp_path / "tls.crt", "-noout", "-ext", "subjectAltName")
    host = "lmforge-reports.lmforge-system.svc"
    assert set(re.findall(r"DNS:([^,\s]+)", text)) == {host, f"{host}.cluster.local"}


def test_a_certificate_of_cert_managers_or_of_ones_own(render: Any) -> None:
    issued = render({"reports": {"tls": {"source": "certManager", "issuerRef": {"name": "ca"}}}})
    certificate = issued["Certificate", "lmforge-reports"]["spec"]
    assert certificate["issuerRef"] == {"group": "cert-manager.io", "kind": "ClusterIssuer", "name": "ca"}
    own = render({"reports": {"tls": {"source": "secret", "secretName": "mine"}}})
    for objects, secret in ((issued, certificate["secretName"]), (own, "mine")):
        assert not [key for key in objects if key[0] == "Secret"]
        assert {"name": "tls", "secret": {"secretName": secret}} in pod_spec(objects)["volumes"]


def test_stores_are_made_where_asked_and_kept(render: Any) -> None:
    assert not [key for key in render() if key[0] == "PersistentVolumeClaim"]
    claim = render({"storage": {"namespaces": ["research"], "size": "1Ti"}})["PersistentVolumeClaim", "lmforge-store"]
    assert claim["metadata"]["namespace"] == "research"
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert claim["spec"]["resources"]["requests"]["storage"] == "1Ti"


def can(server: Any, verb: str, resource: str, *, namespace: str = NAMESPACE) -> bool:
    """Whether the operator may. Subresources as `pods:exec`, single objects as `leases/name`."""
    resource, _, subresource = resource.partition(":")
    account = ("--as=system:serviceaccount:lmforge-system:lmforge", "-n", namespace)
    try:
        answer = server.kubectl("auth", "can-i", verb, resource, f"--subresource={subresource}", *account)
    except CommandFailed:  # it ends with 1 to say no
        return False
    return str(answer).strip() == "yes"


def test_the_operator_may_do_what_it_does_and_no_more(render: Any, api_server: Any) -> None:
    api_server.ensure_namespace(NAMESPACE)
    roles = [manifest for (kind, _), manifest in render().items() if "Role" in kind]
    api_server.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": roles}))
    allowed = [
        ("list", "trainingjobs.lmforge.dev"),
        ("patch", "trainingjobs.lmforge.dev:status"),
        ("delete", "trainingjobs.lmforge.dev"),
        ("create", "jobs.batch"),
        ("watch", "pods"),
        ("create", "persistentvolumeclaims"),
        ("create", "events.events.k8s.io"),
        ("create", "tokenreviews.authentication.k8s.io"),
        ("get", "nodes"),
        ("update", "leases.coordination.k8s.io/lmforge-operator"),
        ("list", "inferenceservices.lmforge.dev"),
        ("list", "finetunes.lmforge.dev"),
        ("patch", "finetunes.lmforge.dev:status"),
        ("patch", "deployments.apps"),
        ("create", "rolebindings.rbac.authorization.k8s.io"),
    ]
    refused = [
        ("get", "secrets"),
        ("list", "secrets"),
        ("update", "trainingjobs.lmforge.dev"),
        ("patch", "trainingjobs.lmforge.dev"),
        ("patch", "finetunes.lmforge.dev"),
        ("delete", "persistentvolumeclaims"),
        ("delete", "pods"),
        ("create", "pods"),
        ("create", "pods:exec"),
        ("impersonate", "users"),
        ("list", "nodes"),
        ("update", "leases.coordination.k8s.io/other"),
        # A router's Role and RoleBinding are made, but nothing can be given away that the operator doesn't have.
        ("bind", "roles.rbac.authorization.k8s.io"),
        ("escalate", "roles.rbac.authorization.k8s.io"),
        ("patch", "rolebindings.rbac.authorization.k8s.io"),
        ("create", "clusterrolebindings.rbac.authorization.k8s.io"),
    ]
    assert [right for right in allowed if not can(api_server, *right)] == []
    assert [right for right in refused if can(api_server, *right)] == []
    assert can(api_server, "create", "jobs.batch", namespace="default")
    assert not can(api_server, "update", "leases.coordination.k8s.io/lmforge-operator", namespace="default")
