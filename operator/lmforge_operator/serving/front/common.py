"""What the router and the gateway have in common: a Deployment that is replaced without a gap, and a Service."""

from collections.abc import Mapping

from lmforge_api.inferenceservice import InferenceServiceSpec
from lmforge_operator.labels import TEMPLATE_HASH
from lmforge_operator.manifests import Manifest
from lmforge_operator.pods import spec as pods
from lmforge_operator.serving.names import PORT, Owner, digest
from lmforge_operator.settings import Settings

UNNOTICED_SECONDS = 5
"""Nodes take an endpoint out of their tables a moment after its pod was told to go."""
MARGIN_SECONDS = 15


def service(owner: Owner, name: str, role: str, reference: Mapping[str, object], *, revision: str = "") -> Manifest:
    """A Service before the pods of a role (and of a revision, if one is named)."""
    selector = owner.selector(role, revision)
    spec = {
        "selector": selector,
        "ports": [{"name": "http", "port": PORT, "targetPort": "http", "appProtocol": "http"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": owner.namespace,
            "labels": {**owner.labels, **selector, TEMPLATE_HASH: digest(spec)},
            "ownerReferences": [reference],
        },
        "spec": spec,
    }


def deployment(
    owner: Owner,
    role: str,
    name: str,
    spec: InferenceServiceSpec,
    settings: Settings,
    container: Manifest,
    *,
    replicas: int,
    more: Manifest,
    told: str = "",
    revision: str = "",
    reference: Mapping[str, object] | None = None,
) -> Manifest:
    """The Deployment of a role. A new template's pods are ready before old ones go, and these finish their requests."""
    selector = owner.selector(role, revision)
    common: Manifest = {
        "imagePullPolicy": settings.images.pull_policy,
        "securityContext": pods.container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    pod: Manifest = {
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": UNNOTICED_SECONDS + spec.drain_seconds + MARGIN_SECONDS,
        "securityContext": pods.pod_security(settings.pods.run_as_user),
        "containers": [container | common],
        "tolerations": [*pods.node_loss_tolerations(), *settings.pods.tolerations],
        "nodeSelector": settings.pods.node_selector,
        "imagePullSecrets": pods.pull_secrets([*settings.images.pull_secrets, *spec.template.image_pull_secrets]),
        **more,
    }
    wanted: Manifest = {
        "replicas": replicas,
        "revisionHistoryLimit": 1,
        "selector": {"matchLabels": selector},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": {
            "metadata": {"labels": {**owner.labels, **selector}, "annotations": {TEMPLATE_HASH: told}},
            "spec": {key: value for key, value in pod.items() if value not in ({}, [])},
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": owner.namespace,
            "labels": {**owner.labels, **selector, TEMPLATE_HASH: digest(wanted)},
            "ownerReferences": [reference or owner.reference],
        },
        "spec": wanted,
    }


def probes(*, ready: str, alive: str) -> Manifest:
    """Readiness is looked at often, liveness with patience."""
    return {
        "readinessProbe": {"httpGet": {"path": ready, "port": "http"}, "periodSeconds": 1, "timeoutSeconds": 5},
        "livenessProbe": {
            "httpGet": {"path": alive, "port": "http"},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
    }


def goes_with(deployment: Mapping[str, object]) -> dict[str, object]:
    """So that the garbage collector removes it with that Deployment, for which the operator needs no rights."""
    meta = deployment["metadata"]
    assert isinstance(meta, dict)
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": meta["name"], "uid": meta["uid"]}
    return owner | {"controller": True, "blockOwnerDeletion": False}
