"""Every setting of the operator: one frozen model, read once from the file that the chart writes."""

import json
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from lmforge_api.base import ApiModel
from lmforge_api.common import Quantity
from lmforge_operator.errors import SettingsError


class Images(ApiModel):
    """Images of the workloads, one a stage."""

    train: str = Field("lmforge-train:latest", min_length=1, description="Image of TrainingJob's pods.")
    finetune: str = Field("lmforge-finetune:latest", min_length=1, description="Image of FineTune's pods.")
    vllm: str = Field("lmforge-vllm:latest", min_length=1, description="Image of replicas with engine vllm.")
    vllm_cuda: str = Field("lmforge-vllm-cuda:latest", min_length=1, description="The same with an accelerator.")
    llamacpp: str = Field("lmforge-llamacpp:latest", min_length=1, description="The same with engine llamacpp.")
    onnx: str = Field("lmforge-onnx:latest", min_length=1, description="The same with engine onnxruntime.")
    tensorrt: str = Field("lmforge-tensorrt:latest", min_length=1, description="The same with engine tensorrt.")
    serve: str = Field("lmforge-serve:latest", min_length=1, description="Image of services' gateways and routers.")
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field("IfNotPresent", description="Of every pod.")
    pull_secrets: list[str] = Field([], description="Secrets for pulling them, in the namespace of each object.")


class Store(ApiModel):
    """Where checkpoints and artifacts go."""

    claim_name: str = Field("lmforge-store", description="Name of the claim in each namespace.")
    create_claim: bool = Field(True, description="Make the claim in a namespace that has none.")
    storage_class: str | None = Field(None, description="Class of a claim that is made. Default: the cluster's.")
    size: Quantity = Field("50Gi", description="Size of a claim that is made.")
    access_modes: list[str] = Field(["ReadWriteMany"], min_length=1, description="Of a claim that is made.")
    mount_path: str = Field("/mnt/store", pattern="^/", description="Where pods see it.")
    sub_path: str = Field("", description="Directory below the claim's root.")


class NodeCache(ApiModel):
    """Models that services keep on the nodes (cache.nodeLocal)."""

    path: str = Field(
        "",
        pattern="^(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$",
        description="Folder of each node that pods' user (settings.pods.runAsUser) may write to, e.g. "
        "/var/lib/lmforge/models. Empty: there is none.",
    )


class Reports(ApiModel):
    """Where pods post their progress."""

    service_url: str | None = Field(
        None,
        pattern="^https://[^/]+$",
        description="URL of the Service before the operator, as pods reach it. None: pods post nothing.",
    )
    address: str = Field("0.0.0.0", description="Address to listen on.")
    port: int = Field(8443, ge=0, le=65535, description="Port to listen on.")
    cert_dir: Path = Field(Path("/etc/lmforge/tls"), description="Holds tls.crt and tls.key; read again when changed.")
    ca_path: Path = Field(Path("/etc/lmforge/tls/ca.crt"), description="Authority of that certificate, given to pods.")
    review_cache_seconds: float = Field(60, ge=0, description="How long a token that was accepted isn't asked about.")
    max_body_bytes: int = Field(64 * 1024, ge=1024, description="Largest report.")
    max_per_second: float = Field(5, gt=0, description="Reports of one object; more get 429.")


class LeaderElection(ApiModel):
    """Of several replicas one works; the others keep their caches warm."""

    enabled: bool = Field(True, description="Off only where exactly one operator can run.")
    lease_name: str = Field("lmforge-operator", description="Name of the Lease.")
    namespace: str | None = Field(None, description="Its namespace. Default: the operator's own.")
    lease_seconds: int = Field(5, ge=2, description="A leader silent for so long is replaced.")
    renew_seconds: float = Field(1.5, gt=0, description="Between two renewals.")
    deadline_seconds: float = Field(3.5, gt=0, description="A leader that could not renew for so long stops writing.")
    poll_seconds: float = Field(0.5, gt=0, description="How often a standby looks.")

    @model_validator(mode="after")
    def _ordered(self) -> "LeaderElection":
        if not self.renew_seconds < self.deadline_seconds < self.lease_seconds:
            raise ValueError("leaderElection needs renewSeconds < deadlineSeconds < leaseSeconds")
        return self


class PodDefaults(ApiModel):
    """What pods get where the object says nothing else."""

    run_as_user: int = Field(65532, ge=1, description="User and group ID; never root.")
    node_selector: dict[str, str] = Field({}, description="Labels that a node must have.")
    tolerations: list[dict[str, str | int]] = Field([], description="Tolerations, as in a Pod.")
    termination_grace_seconds: int = Field(120, ge=1, description="Time to save a checkpoint in after SIGTERM.")


class Queue(ApiModel):
    """How reconciles are paced."""

    workers: int = Field(16, ge=1, le=256, description="Reconciles at a time.")
    minimum_interval_seconds: float = Field(0.5, ge=0, description="Between two reconciles of the same object.")
    patience_seconds: float = Field(0.5, ge=0, description="Children's changes within so long are looked at together.")
    backoff_base_seconds: float = Field(0.5, gt=0, description="First pause after a failure; doubles each time.")
    backoff_max_seconds: float = Field(300, gt=0, description="Longest pause.")
    reconcile_timeout_seconds: float = Field(60, gt=0, description="A reconcile that takes longer counts as failed.")


class Settings(ApiModel):
    """The operator's settings."""

    images: Images = Field(default_factory=Images, description="Images of the workloads.")
    store: Store = Field(default_factory=Store, description="Where checkpoints and artifacts go.")
    node_cache: NodeCache = Field(default_factory=NodeCache, description="Models kept on the nodes.")
    reports: Reports = Field(default_factory=Reports, description="Where pods post their progress.")
    leader_election: LeaderElection = Field(default_factory=LeaderElection, description="High availability.")
    pods: PodDefaults = Field(default_factory=PodDefaults, description="Defaults for pods.")
    queue: Queue = Field(default_factory=Queue, description="How reconciles are paced.")
    watch_namespaces: list[str] = Field([], description="Only these. Empty: all of them.")
    status_interval_seconds: float = Field(5, ge=0, description="Mere progress is written at most so often an object.")
    http_address: str = Field("0.0.0.0", description="Address of probes and metrics.")
    http_port: int = Field(8080, ge=0, le=65535, description="Port of /healthz, /readyz and /metrics.")
    api_connections: int = Field(16, ge=1, le=256, description="Connections to the API server.")
    api_timeout_seconds: float = Field(15, gt=0, description="Longest a request may take.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="What is logged.")


def load(path: Path | None) -> Settings:
    """Reads a YAML or JSON file. Raises SettingsError with a sentence for every mistake in it."""
    if path is None:
        return Settings()
    try:
        text = path.read_text()
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        return Settings.model_validate(content or {})
    except OSError as error:
        raise SettingsError(f"The settings file {path} can't be read: {error.strerror}.") from error
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"The settings file {path} is neither YAML nor JSON: {error}") from error
    except ValidationError as error:
        raise SettingsError(f"The settings file {path} is wrong: {_sentences(error)}") from error


def _sentences(error: ValidationError) -> str:
    def where(place: tuple[int | str, ...]) -> str:
        return ".".join(str(part) for part in place) or "settings"

    return "; ".join(f"{where(problem['loc'])}: {problem['msg']}" for problem in error.errors())
