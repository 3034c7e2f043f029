"""The gateway: keys, limits, prompts, sessions; it holds requests while replicas start, and tells the operator so."""

from collections.abc import Mapping

from lmforge_api.gateway import Gateway
from lmforge_api.gateway_run import GATEWAY_CONFIG_PATH, DemandTarget, GatewayRun, Upstream
from lmforge_api.inferenceservice import InferenceServiceSpec
from lmforge_operator.labels import TEMPLATE_HASH, Role
from lmforge_operator.manifests import Manifest
from lmforge_operator.serving.front.common import UNNOTICED_SECONDS, deployment, goes_with, probes
from lmforge_operator.serving.names import PORT, Owner, digest
from lmforge_operator.settings import Settings

GATEWAY_PORT = 8080
METRICS_PORT = 9090
CONFIG_DIR = "/etc/lmforge"
KEYS_DIR = "/etc/lmforge-keys"
REDIS_DIR = "/etc/lmforge-redis"
TOKEN_DIR = "/var/run/lmforge"


def wanted(spec: InferenceServiceSpec) -> Gateway | None:
    """The gateway that there should be: requests to a service at zero have to be held somewhere, those to a canary
    chosen and counted."""
    may_sleep = spec.autoscaling is not None and spec.autoscaling.min_replicas == 0
    return spec.gateway or (Gateway() if may_sleep or spec.rollout.canary else None)


def told(owner: Owner, spec: InferenceServiceSpec, gateway: Gateway, settings: Settings) -> GatewayRun:
    """What the gateway's pods are told."""
    url = settings.reports.service_url
    path = f"/v1/demand/{owner.plural}/{owner.namespace}/{owner.name}"
    return GatewayRun(
        namespace=owner.namespace,
        name=owner.name,
        uid=owner.uid,
        upstream=Upstream(url=f"http://{owner.router}.{owner.namespace}.svc:{PORT}"),
        model=owner.name,
        adapters=[each.name for each in spec.adapters],
        keys_path=KEYS_DIR,
        redis_url_path=f"{REDIS_DIR}/url",
        demand=DemandTarget(url=url + path, token_path=f"{TOKEN_DIR}/token") if url else None,
        drain_seconds=spec.drain_seconds,
        unready_seconds=UNNOTICED_SECONDS,
        gateway=gateway,
    )


def manifest(
    owner: Owner, spec: InferenceServiceSpec, run: GatewayRun, settings: Settings, *, reports_ca: str
) -> Manifest:
    """The gateway's Deployment."""
    mounts, volumes = _files(owner, run.gateway)
    container: Manifest = {
        "name": "gateway",
        "image": settings.images.serve,
        "command": ["python", "-m", "lmforge_workloads.serve.gateway", "--config", GATEWAY_CONFIG_PATH],
        "ports": [
            {"name": "http", "containerPort": GATEWAY_PORT},
            {"name": "metrics", "containerPort": METRICS_PORT},
        ],
        "resources": {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "1Gi"}},
        **probes(ready="/readyz", alive="/healthz"),
        "volumeMounts": mounts,
    }
    more = {"automountServiceAccountToken": False, "volumes": volumes}
    replicas = 0 if spec.stopped else run.gateway.replicas
    return deployment(
        owner,
        Role.GATEWAY,
        owner.gateway,
        spec,
        settings,
        container,
        replicas=replicas,
        more=more,
        told=digest(run.model_copy(update={"adapters": []}).wire(), reports_ca),  # of these it hears while it runs
    )


def config(owner: Owner, run: GatewayRun, reports_ca: str, gateway: Mapping[str, object]) -> Manifest:
    """The gateway's ConfigMap. It goes with the gateway."""
    data = {GATEWAY_CONFIG_PATH.rsplit("/", 1)[1]: run.model_dump_json(by_alias=True, exclude_none=True)}
    meta: Manifest = {
        "name": owner.gateway,
        "namespace": owner.namespace,
        "labels": {**owner.labels, TEMPLATE_HASH: digest(data, reports_ca)},
        "ownerReferences": [goes_with(gateway)],
    }
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {**data, "ca.crt": reports_ca}}


def _files(owner: Owner, gateway: Gateway) -> tuple[list[Manifest], list[Manifest]]:
    """Mounts and volumes: configuration, token, API keys, the URL of Redis."""
    token = {"serviceAccountToken": {"audience": owner.audience, "expirationSeconds": 3600, "path": "token"}}
    files: list[tuple[str, str, Manifest]] = [
        ("config", CONFIG_DIR, {"configMap": {"name": owner.gateway}}),
        ("token", TOKEN_DIR, {"projected": {"sources": [token]}}),
        ("tmp", "/tmp", {"emptyDir": {}}),
    ]
    if gateway.auth:
        files.append(("keys", KEYS_DIR, {"secret": {"secretName": gateway.auth.secret_name}}))
    redis = gateway.sessions.redis if gateway.sessions else None
    if redis and redis.secret_name:
        items = [{"key": redis.secret_key, "path": "url"}]
        files.append(("redis", REDIS_DIR, {"secret": {"secretName": redis.secret_name, "items": items}}))
    mounts = [
        {"name": name, "mountPath": path} | ({} if name == "tmp" else {"readOnly": True}) for name, path, _ in files
    ]
    return mounts, [{"name": name, **source} for name, _, source in files]
