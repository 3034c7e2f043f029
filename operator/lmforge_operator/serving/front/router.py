"""The router: it finds engines by their labels once they are ready, at any revision or at the one that it is for, and
drops a pod the moment that it is marked for deletion. So it needs to read the pods of its namespace, and is the one pod
that gets a token for that.
"""

from collections.abc import Mapping

from lmforge_api.inferenceservice import InferenceServiceSpec
from lmforge_operator.labels import Role
from lmforge_operator.manifests import Manifest
from lmforge_operator.serving.engines import Engine
from lmforge_operator.serving.engines.engine import PORT as ENGINE_PORT
from lmforge_operator.serving.front import common
from lmforge_operator.serving.front.common import UNNOTICED_SECONDS, deployment, probes
from lmforge_operator.serving.names import Owner, router_of
from lmforge_operator.serving.observed import RevisionSeen
from lmforge_operator.settings import Settings

PORT = 8000
METRICS_PORT = 29000
UNEVEN = 4
"""cache_aware has the replicas tell a prompt's tokens, which costs a request some milliseconds, and sends it to the one
that has its beginning in its cache, until that has so many requests more than another (and half as many again):
vllm-router's own 64 would let a few replicas queue while others are idle."""


def manifest(
    owner: Owner,
    spec: InferenceServiceSpec,
    settings: Settings,
    *,
    engine: Engine,
    revision: RevisionSeen | None = None,
) -> Manifest:
    """The router's Deployment. One that is for a revision goes with it."""
    name = revision.name if revision else ""
    container: Manifest = {
        "name": "router",
        "image": settings.images.serve,
        "command": command(owner, spec, engine, revision=name),
        "ports": [
            {"name": "http", "containerPort": PORT},
            {"name": "metrics", "containerPort": METRICS_PORT},
        ],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}},
        **probes(ready="/liveness", alive="/liveness"),
        "lifecycle": {"preStop": {"sleep": {"seconds": UNNOTICED_SECONDS}}},
    }
    account = {"serviceAccountName": owner.router, "automountServiceAccountToken": True}
    replicas = 0 if spec.stopped else spec.router.replicas
    return deployment(
        owner,
        Role.REVISION_ROUTER if revision else Role.ROUTER,
        router_of(name) if revision else owner.router,
        spec,
        settings,
        container,
        replicas=replicas,
        more=account,
        revision=name,
        reference=common.goes_with({"metadata": {"name": name, "uid": revision.uid}}) if revision else None,
    )


def command(owner: Owner, spec: InferenceServiceSpec, engine: Engine, *, revision: str = "") -> list[str]:
    """vllm-router's arguments are those of `vllm-router --help`."""
    selector = [f"{name}={value}" for name, value in owner.selector(Role.ENGINE, revision).items()]
    return [
        "vllm-router",
        "--host", "0.0.0.0", "--port", str(PORT),
        "--policy", _policy(spec, engine), "--balance-abs-threshold", str(UNEVEN), "--balance-rel-threshold", "1.5",
        "--service-discovery", "--service-discovery-namespace", owner.namespace,
        "--service-discovery-port", str(ENGINE_PORT), "--selector", *selector,
        "--prometheus-host", "0.0.0.0", "--prometheus-port", str(METRICS_PORT),
        "--worker-startup-check-interval", "1",
        "--health-check-interval-secs", "5", "--health-failure-threshold", "2", "--health-success-threshold", "1",
        "--request-timeout-secs", "86400",
        "--log-level", "warning",
    ]  # fmt: skip


def _policy(spec: InferenceServiceSpec, engine: Engine) -> str:
    """To ask for tokens is in vain where an engine doesn't tell them, or where there is but one replica to choose."""
    most = spec.autoscaling.max_replicas if spec.autoscaling else spec.replicas or 1
    if spec.router.policy != "cache_aware" or (engine.tells_tokens and most > 1):
        return spec.router.policy
    return "power_of_two" if most > 1 else "round_robin"


def identity(owner: Owner) -> tuple[Manifest, Manifest, Manifest]:
    """ServiceAccount, Role and RoleBinding: the router reads the pods of its namespace."""
    meta = {
        "name": owner.router,
        "namespace": owner.namespace,
        "labels": owner.labels,
        "ownerReferences": [owner.reference],
    }
    group = "rbac.authorization.k8s.io"
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
    subject = {"kind": "ServiceAccount", "name": owner.router, "namespace": owner.namespace}
    return (
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta, "automountServiceAccountToken": False},
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": meta, "rules": rules},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": owner.router},
            "subjects": [subject],
        },
    )


def service(owner: Owner, gateway: Mapping[str, object], *, revision: str = "") -> Manifest:
    """The Service that the gateway talks to, before the router of that revision or of all. It goes with the gateway."""
    role = Role.REVISION_ROUTER if revision else Role.ROUTER
    return common.service(owner, owner.router, role, common.goes_with(gateway), revision=revision)


def revision_service(owner: Owner, router: Mapping[str, object], revision: str) -> Manifest:
    """The Service before a revision's own router, with which it goes."""
    reference = common.goes_with(router)
    return common.service(owner, router_of(revision), Role.REVISION_ROUTER, reference, revision=revision)
