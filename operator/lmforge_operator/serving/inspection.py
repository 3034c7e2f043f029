"""Looking at a model's files before pods are started for it: what no schema can know, and only a pod can see.

A Job looks once at each model that a service names on a claim, and brings it there first where the service has a cache
(one on the nodes is filled later, by the replicas' own pods: then the Job looks at the model where it is);
its pod's last words are an `Inspection`, which is kept in status, so a service that comes back from zero doesn't wait
for it. A Job that is over goes after a minute. As long as the files are of no use another one then looks again, so that
a model that was repaired is found. Pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from lmforge_api.inferenceservice import InferenceServiceSpec
from lmforge_api.inspection import Inspection
from lmforge_operator.inputs.uris import claims_of, in_pod
from lmforge_operator.labels import REVISION, ROLE, Role
from lmforge_operator.manifests import Manifest
from lmforge_operator.pods import spec as pods
from lmforge_operator.pods.holdups import container_config, image_pull, one_line, unschedulable
from lmforge_operator.pods.state import PodState, read_pod
from lmforge_operator.serving import node_cache
from lmforge_operator.serving.names import Owner, digest
from lmforge_operator.settings import Settings

TRIES = 3
KEPT_SECONDS = 60
LOOKING = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}
CACHED = "lmforge-models"
"""Directory of a cache's claim: below it each model has one of its own, named by where it came from."""


@dataclass(frozen=True)
class Look:
    """How far looking at a model is."""

    begun: bool = False
    found: Inspection | None = None
    holdup: str = ""
    """Why it hasn't been looked at yet."""


def place(spec: InferenceServiceSpec) -> str:
    """URI under which replicas find the model that the spec names by URI: its own, or where the cache has it."""
    uri = (spec.model.uri or "").rstrip("/")
    if spec.cache is None:
        return spec.model.uri or ""
    name = uri.rsplit("/", 1)[-1].partition("@")[0].partition(":")[0]
    if node_cache.wanted(spec):
        return node_cache.place(uri, name)
    return f"pvc://{spec.cache.claim}/{CACHED}/{digest(uri)}/{name}"


def needed(uri: str) -> bool:
    """Whether a pod could see the model's files: those on claims, and before they come to the nodes."""
    return urlsplit(uri).scheme == "pvc" or node_cache.holds(uri)


def read(name: str, *, jobs: Iterable[Mapping[str, Any]], made: Iterable[Mapping[str, Any]]) -> Look:
    """The Job of that name and what its pods said."""
    if not any(job["metadata"]["name"] == name for job in jobs):
        return Look()
    seen = [read_pod(pod) for pod in made if pod["metadata"]["labels"].get(REVISION) == name]
    found = next((said for pod in seen if pod.exit_code == 0 and (said := _said(pod))), None)
    return Look(begun=True, found=found, holdup=_holdup(seen))


def _said(pod: PodState) -> Inspection | None:
    try:
        return Inspection.model_validate_json(pod.words)
    except ValidationError:
        return None


def _holdup(seen: list[PodState]) -> str:
    waits = [pod for pod in seen if not pod.ended]
    found = image_pull(waits, total=1) or container_config(waits) or unschedulable(waits, total=1)
    if found:
        return found.message
    failed = next((pod for pod in seen if pod.exit_code), None)
    if failed is None:
        return ""
    return f"pod {failed.name} ended with exit code {failed.exit_code}: {one_line(failed.words) or failed.exit_reason}"


def job(owner: Owner, spec: InferenceServiceSpec, settings: Settings) -> Manifest:
    """The Job that looks at the model, and brings it to the cache if there is one."""
    name = owner.inspection(place(spec))
    labels = {**owner.labels, ROLE: Role.INSPECTOR, REVISION: name}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": owner.namespace,
            "labels": labels,
            "ownerReferences": [owner.reference],
        },
        "spec": {
            "backoffLimit": TRIES - 1,
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "template": {"metadata": {"labels": labels}, "spec": _pod_spec(spec, settings)},
        },
    }


def _pod_spec(spec: InferenceServiceSpec, settings: Settings) -> Manifest:
    template = spec.template
    pod: Manifest = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pods.pod_security(settings.pods.run_as_user),
        "containers": [_container(spec, settings)],
        "volumes": [
            *pods.claim_volumes(_claims(spec), writable=spec.cache is not None),
            *pods.login_volumes(spec.model.registry),
            {"name": "tmp", "emptyDir": {}},
        ],
        "tolerations": [*pods.node_loss_tolerations(), *settings.pods.tolerations, *template.tolerations],
    }
    optional: Manifest = {
        "nodeSelector": settings.pods.node_selector,
        "imagePullSecrets": pods.pull_secrets([*settings.images.pull_secrets, *template.image_pull_secrets]),
    }
    return pod | {key: value for key, value in optional.items() if value}


def _container(spec: InferenceServiceSpec, settings: Settings) -> Manifest:
    container: Manifest = {
        "name": "inspector",
        "image": settings.images.serve,
        "imagePullPolicy": settings.images.pull_policy,
        "command": _command(spec),
        "resources": pods.FETCHING if spec.cache else LOOKING,
        "securityContext": pods.container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            *pods.claim_mounts(_claims(spec), writable=spec.cache is not None),
            *pods.login_mounts(spec.model.registry),
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    # Only who fetches gets what the user says to pods: a hub's token, a bucket's keys.
    return container | (pods.environment(spec.template) if spec.cache else {})


def _command(spec: InferenceServiceSpec) -> list[str]:
    if node_cache.wanted(spec):
        return ["python", "-m", "lmforge_workloads.serve.outline", "--uri", spec.model.uri or ""]
    path = in_pod(place(spec), store_claim="", store_mount="").removeprefix("file://")
    program, says = ("fetch", "--uri") if spec.cache else ("inspection", "--name")
    return [
        "python",
        "-m",
        f"lmforge_workloads.serve.{program}",
        "--path",
        path,
        says,
        spec.model.uri or "",
        *_access(spec),
    ]


def _access(spec: InferenceServiceSpec) -> list[str]:
    access = spec.model.registry
    if access is None:
        return []
    return [*(["--secret", access.secret] if access.secret else []), *(["--insecure"] if access.insecure else [])]


def _claims(spec: InferenceServiceSpec) -> tuple[str, ...]:
    return claims_of([place(spec)], store_claim="")
