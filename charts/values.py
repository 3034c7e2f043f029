"""The chart's values, as one model: values.yaml, its schema and the table in README are generated from it.

Settings that the operator reads as they are come from its own model, so that the chart can't offer what it won't take.
"""

from typing import Any, Literal

from pydantic import Field

from lmforge_api.base import ApiModel
from lmforge_operator import settings


class Images(settings.Images):
    """Images of the operator and of the workloads."""

    operator: str = Field("lmforge-operator:latest", min_length=1, description="Image of the operator.")


class Storage(settings.Store):
    """Where checkpoints and artifacts go."""

    namespaces: list[str] = Field(
        [],
        description="Namespaces in which the chart makes the claim. In others the operator does, when needed.",
    )


class IssuerRef(ApiModel):
    """A cert-manager issuer."""

    name: str = Field("", description="Its name. Required when source is certManager.")
    kind: Literal["Issuer", "ClusterIssuer"] = Field("ClusterIssuer", description="Its kind.")


class Tls(ApiModel):
    """Certificate of the endpoint that pods report to."""

    source: Literal["helm", "certManager", "secret"] = Field(
        "helm",
        description="helm makes a self-signed one and keeps it; certManager asks issuerRef; secret takes secretName.",
    )
    secret_name: str = Field("", description="A Secret of yours with ca.crt, tls.crt and tls.key.")
    issuer_ref: IssuerRef = Field(default_factory=IssuerRef, description="Issuer for certManager.")


class Reports(ApiModel):
    """The endpoint that pods report progress to."""

    port: int = Field(8443, ge=1, le=65535, description="Port of the Service and of the pods.")
    tls: Tls = Field(default_factory=Tls, description="Its certificate.")


class Crds(ApiModel):
    """The custom resource definitions."""

    install: bool = Field(True, description="Install them, and bring them up to date at each upgrade.")
    keep: bool = Field(
        True, description="Leave them, and with them all objects, when the chart is uninstalled. false deletes both."
    )


class Rbac(ApiModel):
    """Who may do what."""

    create: bool = Field(True, description="Give the operator the rights that it uses, each verb by name.")
    aggregate: bool = Field(True, description="Let the cluster's own admin, edit and view roles cover LMForge's kinds.")


class ServiceAccount(ApiModel):
    """The operator's identity."""

    create: bool = Field(True, description="Make it.")
    name: str = Field("", description="Its name. Default: the release's.")
    annotations: dict[str, str] = Field({}, description="E.g. for a cloud's workload identity.")


class PodDisruptionBudget(ApiModel):
    """How many replicas a drain may take at a time."""

    enabled: bool = Field(True, description="Make one when there is more than one replica.")
    max_unavailable: int = Field(1, ge=1, description="Replicas that may be missing.")


class NetworkPolicy(ApiModel):
    """Who may talk to the operator, and whom it may talk to."""

    enabled: bool = Field(True, description="Make it. Clusters whose network doesn't know policies ignore it.")
    api_server_ports: list[int] = Field(
        [443, 6443], description="Ports of the API server; the one that is found at installation is added."
    )
    metrics_from: list[dict[str, Any]] = Field(
        [], description="Peers (as in a NetworkPolicy) that may read probes and metrics. Empty: all."
    )


class ServiceMonitor(ApiModel):
    """For the Prometheus operator."""

    enabled: bool = Field(False, description="Make one. Needs the Prometheus operator's CRDs.")
    interval: str = Field("30s", pattern="^[0-9]+(s|m)$", description="Between two scrapes.")
    labels: dict[str, str] = Field({}, description="Labels by which your Prometheus finds it.")


class Metrics(ApiModel):
    """Prometheus metrics."""

    port: int = Field(8080, ge=1, le=65535, description="Port of /metrics, /healthz and /readyz.")
    service_monitor: ServiceMonitor = Field(default_factory=ServiceMonitor, description="For the Prometheus operator.")


class ArgoCd(ApiModel):
    """What Argo CD needs to know whether an object is healthy."""

    health_checks: bool = Field(
        False, description="Make a ConfigMap with health scripts, to be merged into argocd-cm (see NOTES)."
    )


class Requests(ApiModel):
    """CPU and memory."""

    cpu: str | None = Field(None, description="CPU.")
    memory: str | None = Field(None, description="Memory.")


class OperatorResources(ApiModel):
    """CPU and memory of each replica."""

    requests: Requests = Field(Requests(cpu="100m", memory="128Mi"), description="What is set aside.")
    limits: Requests = Field(Requests(memory="512Mi"), description="What it can't exceed.")


class Settings(ApiModel):
    """Settings of the operator that few need to touch."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="What is logged.")
    status_interval_seconds: float = Field(5, ge=0, description="Mere progress is written at most so often an object.")
    pods: settings.PodDefaults = Field(default_factory=settings.PodDefaults, description="Defaults for workload pods.")
    queue: settings.Queue = Field(default_factory=settings.Queue, description="How reconciles are paced.")
    leader_election: settings.LeaderElection = Field(
        default_factory=settings.LeaderElection, description="Of several replicas one works, the others stand by."
    )


class Values(ApiModel):
    """Values of the LMForge chart."""

    replicas: int = Field(2, ge=1, le=9, description="Operator pods. One works; with two, another takes over at once.")
    images: Images = Field(default_factory=Images, description="Images.")
    watch_namespaces: list[str] = Field(
        [], description="Work only in these namespaces, with rights only there. Empty: in all."
    )
    storage: Storage = Field(default_factory=Storage, description="Where checkpoints and artifacts go.")
    node_cache: settings.NodeCache = Field(
        default_factory=settings.NodeCache, description="Models that services keep on the nodes (cache.nodeLocal)."
    )
    crds: Crds = Field(default_factory=Crds, description="The custom resource definitions.")
    reports: Reports = Field(default_factory=Reports, description="The endpoint that pods report progress to.")
    settings: Settings = Field(default_factory=Settings, description="Settings of the operator.")
    rbac: Rbac = Field(default_factory=Rbac, description="Rights.")
    service_account: ServiceAccount = Field(default_factory=ServiceAccount, description="The operator's identity.")
    resources: OperatorResources = Field(default_factory=OperatorResources, description="Of each operator pod.")
    priority_class_name: str = Field("", description="Of the operator's pods, e.g. system-cluster-critical.")
    node_selector: dict[str, str] = Field({}, description="Labels that a node of the operator must have.")
    tolerations: list[dict[str, Any]] = Field([], description="Of the operator's pods.")
    affinity: dict[str, Any] = Field({}, description="Of the operator's pods.")
    pod_labels: dict[str, str] = Field({}, description="More labels for the operator's pods.")
    pod_annotations: dict[str, str] = Field({}, description="More annotations for the operator's pods.")
    pod_disruption_budget: PodDisruptionBudget = Field(
        default_factory=PodDisruptionBudget, description="Keeps a drain from taking all replicas."
    )
    network_policy: NetworkPolicy = Field(default_factory=NetworkPolicy, description="Network policy of the operator.")
    metrics: Metrics = Field(default_factory=Metrics, description="Prometheus metrics.")
    argocd: ArgoCd = Field(default_factory=ArgoCd, description="For Argo CD.")
