"""The parts of a pod's manifest that are the same for all of ours: what it may do, what it asks for. Pure."""

from collections.abc import Iterable, Sequence

from lmforge_api.common import PodTemplate, Resources
from lmforge_api.registry import LOGIN_PATH, RegistryAccess
from lmforge_operator.inputs.uris import CLAIM_MOUNTS
from lmforge_operator.manifests import Manifest

FETCHING = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}}
"""What a container that copies a model asks for."""
NODE_LOSS_TOLERATION_SECONDS = 5
"""Work goes on elsewhere at once: waiting the usual five minutes for a lost node to come back only costs time."""


def pod_security(user: int) -> Manifest:
    """Never root; volumes belong to the pod's group."""
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Manifest:
    """No capability, no way to gain one, nothing of the image to be written to."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def container_resources(wanted: Resources) -> Manifest:
    """Requests equal limits for memory and accelerators; CPU has no limit."""
    requests = {"cpu": wanted.cpu, "memory": wanted.memory}
    limits = {"memory": wanted.memory}
    if wanted.accelerator:
        requests[wanted.accelerator] = limits[wanted.accelerator] = str(wanted.count)
    return {"requests": requests, "limits": limits}


def environment(template: PodTemplate, own: Iterable[tuple[str, str]] = ()) -> Manifest:
    """env and envFrom of a container: our own variables, and over them the user's."""
    values = dict(own) | {variable.name: variable.value for variable in template.env}
    env = [{"name": name, "value": value} for name, value in values.items()]
    sources = [{"secretRef": {"name": name}} for name in template.env_from]
    return ({"env": env} if env else {}) | ({"envFrom": sources} if sources else {})


def claim_mounts(claims: Sequence[str], *, writable: bool = False) -> list[Manifest]:
    """Inputs on claims, where `inputs.uris.in_pod` says they are."""
    return [
        {"name": f"input-{number}", "mountPath": f"{CLAIM_MOUNTS}/{claim}", "readOnly": not writable}
        for number, claim in enumerate(claims)
    ]


def claim_volumes(claims: Sequence[str], *, writable: bool = False) -> list[Manifest]:
    """The volumes of `claim_mounts`."""
    return [
        {"name": f"input-{number}", "persistentVolumeClaim": {"claimName": claim, "readOnly": not writable}}
        for number, claim in enumerate(claims)
    ]


def node_loss_tolerations() -> list[Manifest]:
    """So that a pod of a lost node counts as lost within seconds."""
    return [
        {
            "key": f"node.kubernetes.io/{taint}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": NODE_LOSS_TOLERATION_SECONDS,
        }
        for taint in ("not-ready", "unreachable")
    ]


def pull_secrets(names: Iterable[str]) -> list[Manifest]:
    """As a pod names them."""
    return [{"name": name} for name in dict.fromkeys(names)]


def login_mounts(access: RegistryAccess | None) -> list[Manifest]:
    """A registry's login, where a spec names one."""
    if access is None or access.secret is None:
        return []
    return [{"name": "registry", "mountPath": LOGIN_PATH, "readOnly": True}]


def login_volumes(access: RegistryAccess | None) -> list[Manifest]:
    """The volume of `login_mounts`. A Secret that isn't there holds no pod up: the workload says it better."""
    if access is None or access.secret is None:
        return []
    return [{"name": "registry", "secret": {"secretName": access.secret, "defaultMode": 0o440, "optional": True}}]
