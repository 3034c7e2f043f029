"""A revision as a Deployment: engines that warm up before they are ready, and finish their requests before they go.

Its pod template never changes: another template is another revision. Only the number of replicas does.
"""

from collections.abc import Sequence
from typing import Any

from lmforge_operator import labels
from lmforge_operator.inputs.uris import claims_of
from lmforge_operator.pods import spec as pods
from lmforge_operator.serving.adapters import config as adapters
from lmforge_operator.serving.engines import Engine, Task
from lmforge_operator.serving.engines.engine import UNNOTICED_SECONDS, WARM_UP_SECONDS
from lmforge_operator.serving.names import Owner
from lmforge_operator.settings import Settings

Manifest = dict[str, Any]

CONTAINER = "engine"
MARGIN_SECONDS = 15


def deployment(
    owner: Owner,
    revision: str,
    engine: Engine,
    task: Task,
    settings: Settings,
    *,
    model_uri: str,
    claims: Sequence[str] = (),
    replicas: int,
) -> Manifest:
    """The revision's Deployment. `claims` are mounted besides the model's."""
    wanted = owner.revision_labels(revision)
    takes = {labels.ADAPTERS: "true"} if task.spec.lora else {}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": revision,
            "namespace": owner.namespace,
            "labels": {**owner.labels, **wanted},
            "ownerReferences": [owner.reference],
        },
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 0,
            "selector": {"matchLabels": wanted},
            "template": {
                "metadata": {
                    "labels": {**task.spec.template.labels, **owner.labels, **wanted, **takes},
                    "annotations": task.spec.template.annotations,
                },
                "spec": _pod_spec(owner, engine, task, settings, (*claims_of([model_uri], store_claim=""), *claims)),
            },
        },
    }


def _pod_spec(owner: Owner, engine: Engine, task: Task, settings: Settings, claims: Sequence[str]) -> Manifest:
    template = task.spec.template
    spec: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": UNNOTICED_SECONDS + task.spec.drain_seconds + MARGIN_SECONDS,
        "securityContext": pods.pod_security(settings.pods.run_as_user),
        "containers": [_container(engine, task, settings, claims)],
        "volumes": _volumes(owner, task, claims),
        "tolerations": [*pods.node_loss_tolerations(), *settings.pods.tolerations, *template.tolerations],
        "affinity": template.affinity or _apart(owner),
    }
    optional: Manifest = {
        "serviceAccountName": template.service_account_name,
        "nodeSelector": {**settings.pods.node_selector, **template.node_selector},
        "imagePullSecrets": pods.pull_secrets([*settings.images.pull_secrets, *template.image_pull_secrets]),
    }
    return spec | {key: value for key, value in optional.items() if value}


def _container(engine: Engine, task: Task, settings: Settings, claims: Sequence[str]) -> Manifest:
    health = {"httpGet": {"path": engine.health_path, "port": "http"}, "timeoutSeconds": 5}
    container: Manifest = {
        "name": CONTAINER,
        "image": task.spec.template.image or engine.image(settings.images, task.spec),
        "imagePullPolicy": settings.images.pull_policy,
        "command": list(engine.command(task)),
        "ports": [{"name": "http", "containerPort": engine.port}],
        "resources": pods.container_resources(task.spec.resources),
        "securityContext": pods.container_security(),
        "startupProbe": _startup(engine, task),
        "readinessProbe": {**health, "periodSeconds": 2},
        "livenessProbe": {**health, "periodSeconds": 10, "failureThreshold": 6},
        "lifecycle": {"preStop": _before_the_end(engine, task)},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": _mounts(task, claims),
    }
    return container | pods.environment(task.spec.template, engine.environment(task).items())


def _startup(engine: Engine, task: Task) -> Manifest:
    """The warm-up. Kubelet gives up later than the operator, which then says why and rolls back."""
    tries = 2 * task.spec.rollout.ready_deadline_seconds
    return {
        "exec": {"command": list(engine.warm_up(task))},
        "periodSeconds": 1,
        "timeoutSeconds": WARM_UP_SECONDS,
        "failureThreshold": tries,
    }


def _before_the_end(engine: Engine, task: Task) -> Manifest:
    if engine.drain is None:
        return {"sleep": {"seconds": UNNOTICED_SECONDS}}
    return {"exec": {"command": list(engine.drain(task))}}


def _mounts(task: Task, claims: Sequence[str]) -> list[Manifest]:
    return [
        {"name": "shm", "mountPath": "/dev/shm"},
        {"name": "tmp", "mountPath": "/tmp"},
        *pods.claim_mounts(claims),
        *([adapters.mount()] if task.spec.lora else []),
    ]


def _volumes(owner: Owner, task: Task, claims: Sequence[str]) -> list[Manifest]:
    return [
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": task.spec.resources.shared_memory}},
        {"name": "tmp", "emptyDir": {}},
        *pods.claim_volumes(claims),
        *([adapters.volume(owner)] if task.spec.lora else []),
    ]


def _apart(owner: Owner) -> Manifest:
    """Replicas keep apart from each other as far as possible: one node's loss should not take all of them."""
    same = {"labelSelector": {"matchLabels": owner.selector(labels.Role.ENGINE)}}
    term = {"weight": 100, "podAffinityTerm": {**same, "topologyKey": "kubernetes.io/hostname"}}
    return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term]}}
