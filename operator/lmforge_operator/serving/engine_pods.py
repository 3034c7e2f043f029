"""A revision as a Deployment, or as a LeaderWorkerSet where a replica is several pods: engines that warm up before they
are ready, and finish their requests before they go.

Its pod template never changes: another template is another revision. Only the number of replicas does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lmforge_operator import labels
from lmforge_operator.manifests import Manifest
from lmforge_operator.pods import spec as pods
from lmforge_operator.serving import inspection, node_cache
from lmforge_operator.serving.adapters import config as adapters
from lmforge_operator.serving.engines import Engine, Task
from lmforge_operator.serving.engines.engine import HEALTH_PATH, PORT, UNNOTICED_SECONDS, WARM_UP_SECONDS
from lmforge_operator.serving.names import Owner
from lmforge_operator.settings import Settings

CONTAINER = "engine"
MARGIN_SECONDS = 15


@dataclass(frozen=True, kw_only=True)
class Revision:
    """What a revision's pods are made of."""

    owner: Owner
    name: str
    engine: Engine
    task: Task
    settings: Settings
    claims: Sequence[str]
    """Mounted by its pods."""

    def manifest(self, *, replicas: int) -> Manifest:
        """The Deployment or LeaderWorkerSet."""
        return _group(self, replicas) if self.task.spec.nodes > 1 else _deployment(self, replicas)


def _deployment(revision: Revision, replicas: int) -> Manifest:
    spec = {
        "replicas": replicas,
        "revisionHistoryLimit": 0,
        "selector": {"matchLabels": revision.owner.revision_labels(revision.name)},
        "template": _leader(revision),
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": _metadata(revision), "spec": spec}


def _group(revision: Revision, replicas: int) -> Manifest:
    """Pods of a replica start together, and when one of them ends, all of them start anew: an engine that has lost a
    part can't go on."""
    spec = {
        "replicas": replicas,
        "startupPolicy": "LeaderCreated",
        "leaderWorkerTemplate": {
            "size": revision.task.spec.nodes,
            "restartPolicy": "RecreateGroupOnPodRestart",
            "leaderTemplate": _leader(revision),
            "workerTemplate": _follower(revision),
        },
    }
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": _metadata(revision),
        "spec": spec,
    }


def _metadata(revision: Revision) -> Manifest:
    owner = revision.owner
    return {
        "name": revision.name,
        "namespace": owner.namespace,
        "labels": {**owner.labels, **owner.revision_labels(revision.name)},
        "ownerReferences": [owner.reference],
    }


def _leader(revision: Revision) -> Manifest:
    takes = {labels.ADAPTERS: "true"} if revision.task.spec.lora else {}
    return _template(revision, labels.Role.ENGINE, _takes_requests(revision), more=takes)


def _follower(revision: Revision) -> Manifest:
    follower = revision.engine.follower
    assert follower is not None, f"engine {revision.engine.name} runs on several nodes"
    container = _container(revision, follower.command(revision.task))
    container["lifecycle"] = {"preStop": {"exec": {"command": list(follower.outlive(revision.task))}}}
    return _template(revision, labels.Role.FOLLOWER, container)


def _template(revision: Revision, role: str, container: Manifest, *, more: Mapping[str, str] | None = None) -> Manifest:
    owner, template = revision.owner, revision.task.spec.template
    own = {**owner.labels, **owner.revision_labels(revision.name), labels.ROLE: role, **(more or {})}
    return {
        "metadata": {"labels": {**template.labels, **own}, "annotations": template.annotations},
        "spec": _pod_spec(revision, container),
    }


def _pod_spec(revision: Revision, container: Manifest) -> Manifest:
    owner, task, settings = revision.owner, revision.task, revision.settings
    template = task.spec.template
    spec: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # A namespace's first process ignores SIGTERM until it has a handler, which an engine that still loads hasn't.
        "shareProcessNamespace": True,
        "terminationGracePeriodSeconds": UNNOTICED_SECONDS + task.spec.drain_seconds + MARGIN_SECONDS,
        "securityContext": pods.pod_security(settings.pods.run_as_user),
        "containers": [container],
        "volumes": _volumes(revision),
        "tolerations": [*pods.node_loss_tolerations(), *settings.pods.tolerations, *template.tolerations],
        "affinity": template.affinity or _apart(owner),
    }
    optional: Manifest = {
        "initContainers": _first(revision),
        "serviceAccountName": template.service_account_name,
        "nodeSelector": {**settings.pods.node_selector, **template.node_selector},
        "imagePullSecrets": pods.pull_secrets([*settings.images.pull_secrets, *template.image_pull_secrets]),
    }
    return spec | {key: value for key, value in optional.items() if value}


def _takes_requests(revision: Revision) -> Manifest:
    engine, task = revision.engine, revision.task
    health = {"httpGet": {"path": HEALTH_PATH, "port": "http"}, "timeoutSeconds": 5}
    return _container(revision, engine.command(task)) | {
        "ports": [{"name": "http", "containerPort": PORT}],
        "startupProbe": _startup(engine, task),
        "readinessProbe": {**health, "periodSeconds": 2},
        "livenessProbe": {**health, "periodSeconds": 10, "failureThreshold": 6},
        "lifecycle": {"preStop": _before_the_end(engine, task)},
    }


def _container(revision: Revision, command: Sequence[str]) -> Manifest:
    engine, task, images = revision.engine, revision.task, revision.settings.images
    container: Manifest = {
        "name": CONTAINER,
        "image": task.spec.template.image or engine.image(images, task.spec),
        "imagePullPolicy": images.pull_policy,
        "command": list(command),
        "resources": pods.container_resources(task.spec.resources),
        "securityContext": pods.container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": _mounts(revision),
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


def _first(revision: Revision) -> list[Manifest]:
    """What runs before the engine."""
    spec = revision.task.spec
    if not node_cache.wanted(spec):
        return []
    return [node_cache.fetcher(revision.owner, spec, revision.settings, place=inspection.place(spec))]


def _mounts(revision: Revision) -> list[Manifest]:
    spec = revision.task.spec
    return [
        {"name": "shm", "mountPath": "/dev/shm"},
        {"name": "tmp", "mountPath": "/tmp"},
        *pods.claim_mounts(revision.claims),
        *([adapters.mount()] if spec.lora else []),
        *([node_cache.mount(revision.owner, inspection.place(spec))] if node_cache.wanted(spec) else []),
    ]


def _volumes(revision: Revision) -> list[Manifest]:
    spec = revision.task.spec
    return [
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": spec.resources.shared_memory}},
        {"name": "tmp", "emptyDir": {}},
        *pods.claim_volumes(revision.claims),
        *([adapters.volume(revision.owner)] if spec.lora else []),
        *([node_cache.volume(revision.settings)] if node_cache.wanted(spec) else []),
    ]


def _apart(owner: Owner) -> Manifest:
    """Engines keep apart from each other as far as possible: one node's loss should not take all of them."""
    engines = {"key": labels.ROLE, "operator": "In", "values": [labels.Role.ENGINE, labels.Role.FOLLOWER]}
    same = {"labelSelector": {"matchLabels": {labels.OWNER_UID: owner.uid}, "matchExpressions": [engines]}}
    term = {"weight": 100, "podAffinityTerm": {**same, "topologyKey": "kubernetes.io/hostname"}}
    return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term]}}
