"""An attempt as Kubernetes objects: an Indexed Job (completion index = node rank), its Service and its ConfigMap."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lmforge_api.common import PodTemplate, Resources, Scheduling
from lmforge_api.registry import RegistryAccess
from lmforge_api.run import RUN_CONFIG_PATH, TERMINATION_LOG
from lmforge_operator import labels
from lmforge_operator.manifests import Manifest
from lmforge_operator.pods.spec import (
    claim_mounts,
    claim_volumes,
    container_resources,
    container_security,
    environment,
    login_mounts,
    login_volumes,
    node_loss_tolerations,
    pod_security,
    pull_secrets,
)
from lmforge_operator.runs import gang
from lmforge_operator.runs.names import Owner

CONFIG_DIR = RUN_CONFIG_PATH.rsplit("/", 1)[0]
TOKEN_DIR = "/var/run/lmforge"


@dataclass(frozen=True)
class Launch:
    """What one attempt runs with."""

    owner: Owner
    attempt: int
    nodes: int
    image: str
    command: Sequence[str]
    config: str
    resources: Resources
    scheduling: Scheduling
    template: PodTemplate
    store_claim: str
    store_mount: str = "/mnt/store"
    claims: Sequence[str] = ()
    reports_ca: str = ""
    pull_policy: str = "IfNotPresent"
    pull_secrets: Sequence[str] = ()
    user: int = 65532
    node_selector: Mapping[str, str] = field(default_factory=dict)
    grace_seconds: int = 120
    hash: str = ""
    tolerations: Sequence[Mapping[str, str | int]] = ()
    registry: RegistryAccess | None = None

    @property
    def labels(self) -> dict[str, str]:
        """Labels of every child."""
        return self.owner.labels

    @property
    def attempt_labels(self) -> dict[str, str]:
        """Labels of the children of one attempt."""
        return {**self.labels, labels.ATTEMPT: str(self.attempt), labels.TEMPLATE_HASH: self.hash}


def template_hash(*parts: object) -> str:
    """A short identity of what pods are made from: when it changes, an attempt that got nowhere is replaced."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]


def service(launch: Launch) -> Manifest:
    """The headless Service: ranks find each other by name before they are ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(launch, launch.owner.service, launch.labels),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {labels.OWNER_UID: launch.owner.uid},
            "ports": [{"name": "rendezvous", "port": 29500}],
        },
    }


def config_map(launch: Launch, job: Manifest) -> Manifest:
    """The workload's whole configuration, and the authority of its reports' endpoint. It goes with its Job."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _owned_by(job, _metadata(launch, launch.owner.job(launch.attempt), launch.attempt_labels)),
        "immutable": True,
        "data": {RUN_CONFIG_PATH.rsplit("/", 1)[1]: launch.config, "ca.crt": launch.reports_ca},
    }


def job(launch: Launch) -> Manifest:
    """The Indexed Job. One failed pod ends it: the operator starts the next attempt, not the Job controller."""
    meta = _metadata(launch, launch.owner.job(launch.attempt), launch.attempt_labels)
    if launch.scheduling.queue:
        meta["labels"] = {**meta["labels"], labels.KUEUE_QUEUE: launch.scheduling.queue}
    spec: Manifest = {
        "completions": launch.nodes,
        "parallelism": launch.nodes,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        "template": {"metadata": _pod_metadata(launch), "spec": _pod_spec(launch)},
    }
    if launch.scheduling.queue:
        spec["suspend"] = True  # Kueue lets it go
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec}


def pod_group(launch: Launch, job: Manifest) -> Manifest | None:
    """The group that a gang scheduler starts together, where the spec asks for one. It goes with its Job."""
    meta = _owned_by(job, _metadata(launch, launch.owner.job(launch.attempt), launch.attempt_labels))
    return gang.pod_group(launch.scheduling, meta, nodes=launch.nodes)


def _metadata(launch: Launch, name: str, wanted: dict[str, str]) -> Manifest:
    return {
        "name": name,
        "namespace": launch.owner.namespace,
        "labels": wanted,
        "ownerReferences": [launch.owner.reference],
    }


def _owned_by(job: Manifest, metadata: Manifest) -> Manifest:
    """So that the garbage collector removes it with the attempt, for which the operator needs no rights."""
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"]}
    return metadata | {"ownerReferences": [owner | {"controller": True, "blockOwnerDeletion": False}]}


def _pod_metadata(launch: Launch) -> Manifest:
    grouped = gang.pod_metadata(launch.scheduling, launch.owner.job(launch.attempt))
    return {
        "labels": {**launch.template.labels, **launch.attempt_labels, **grouped.get("labels", {})},
        "annotations": {**launch.template.annotations, **grouped.get("annotations", {})},
    }


def _pod_spec(launch: Launch) -> Manifest:
    template = launch.template
    spec: Manifest = {
        "subdomain": launch.owner.service,
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": launch.grace_seconds,
        "securityContext": pod_security(launch.user),
        "containers": [_container(launch)],
        "volumes": _volumes(launch),
        "tolerations": [*node_loss_tolerations(), *launch.tolerations, *template.tolerations],
    }
    optional: Manifest = {
        "serviceAccountName": template.service_account_name,
        "nodeSelector": {**launch.node_selector, **template.node_selector},
        "affinity": template.affinity or _spread(launch),
        "priorityClassName": launch.scheduling.priority_class_name,
        "imagePullSecrets": pull_secrets([*launch.pull_secrets, *template.image_pull_secrets]),
        "schedulerName": "volcano" if launch.scheduling.gang == "volcano" else None,
    }
    return spec | {key: value for key, value in optional.items() if value}


def _container(launch: Launch) -> Manifest:
    container: Manifest = {
        "name": "workload",
        "image": launch.template.image or launch.image,
        "imagePullPolicy": launch.pull_policy,
        "command": list(launch.command),
        "resources": container_resources(launch.resources),
        "securityContext": container_security(),
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": _mounts(launch),
    }
    return container | environment(launch.template)


def _mounts(launch: Launch) -> list[Manifest]:
    mounts: list[Manifest] = [
        {"name": "config", "mountPath": CONFIG_DIR, "readOnly": True},
        {"name": "token", "mountPath": TOKEN_DIR, "readOnly": True},
        {"name": "shm", "mountPath": "/dev/shm"},
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "store", "mountPath": launch.store_mount},
    ]
    return mounts + claim_mounts(launch.claims) + login_mounts(launch.registry)


def _volumes(launch: Launch) -> list[Manifest]:
    token = {"serviceAccountToken": {"audience": launch.owner.audience, "expirationSeconds": 3600, "path": "token"}}
    volumes: list[Manifest] = [
        {"name": "config", "configMap": {"name": launch.owner.job(launch.attempt)}},
        {"name": "token", "projected": {"sources": [token]}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": launch.resources.shared_memory}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "store", "persistentVolumeClaim": {"claimName": launch.store_claim}},
    ]
    return volumes + claim_volumes(launch.claims) + login_volumes(launch.registry)


def _spread(launch: Launch) -> Manifest | None:
    """Pods keep to one topology domain where the user names one, and apart from each other as far as possible."""
    if launch.nodes == 1:
        return None
    same_run = {"labelSelector": {"matchLabels": {labels.OWNER_UID: launch.owner.uid}}}
    apart = {"weight": 100, "podAffinityTerm": {**same_run, "topologyKey": "kubernetes.io/hostname"}}
    affinity: Manifest = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [apart]}}
    if launch.scheduling.topology_key:
        together = {**same_run, "topologyKey": launch.scheduling.topology_key}
        affinity["podAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": [together]}
    return affinity
