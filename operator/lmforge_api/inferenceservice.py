"""InferenceService: serve a language model behind an OpenAI-compatible URL, autoscaled."""

from typing import Literal

from pydantic import Field

from lmforge_api.base import ApiModel, StatusModel, keyed_by
from lmforge_api.common import Ancestor, Condition, ModelShape, PodTemplate, Resources
from lmforge_api.gateway import Gateway
from lmforge_api.inferenceservice_adapters import Adapter, AdapterStatus, Lora
from lmforge_api.inferenceservice_engines import EngineName
from lmforge_api.inferenceservice_parts import (
    Autoscaling,
    Cache,
    EngineArgs,
    Rollout,
    Router,
    ServedModel,
    ServingParallelism,
)
from lmforge_api.inferenceservice_rules import RULES

__all__ = ["InferenceServiceSpec", "InferenceServiceStatus"]

ServicePhase = Literal["Pending", "Loading", "Ready", "Updating", "Degraded", "Idle", "Stopped"]


class InferenceServiceSpec(ApiModel):
    """Which model to serve, how, and how many times."""

    cel_rules = RULES

    model: ServedModel = Field(description="Which model is served.")
    engine: EngineName = Field(
        "vllm",
        description="What runs the model. llamacpp (llama-server) loads GGUF files; onnxruntime (onnxruntime-genai) loads ONNX directories; tensorrt (trtllm-serve) needs NVIDIA's accelerators.",
    )
    engine_args: EngineArgs = Field(default_factory=EngineArgs, description="How the engine runs it.")
    adapters: list[Adapter] = Field(
        [],
        max_length=128,
        description="LoRA adapters, which requests choose by name. They are loaded into running replicas and taken out of them without a restart, but for the first one (see engineArgs.lora), and one on a claim that neither the model, nor another adapter, nor the store is on: these make a new revision.",
        json_schema_extra=keyed_by("name"),
    )
    parallelism: ServingParallelism = Field(
        default_factory=ServingParallelism,
        description="How a replica is split over its accelerators: tensor × pipeline × data is nodes × resources.count.",
    )
    nodes: int = Field(
        1,
        ge=1,
        le=64,
        description="Pods of one replica, which hold one model together and start, fail and go together (engine vllm; LeaderWorkerSet has to be installed).",
    )
    replicas: int | None = Field(
        None,
        ge=0,
        le=1000,
        description="Replicas, where autoscaling doesn't decide. Default: 1. `kubectl scale` sets it.",
    )
    autoscaling: Autoscaling | None = Field(None, description="As many replicas as the load needs.")
    router: Router = Field(default_factory=Router, description="How requests are spread over the replicas.")
    gateway: Gateway | None = Field(
        None,
        description="API keys, limits, prompt templates and sessions. There is one with defaults where minReplicas is 0 or rollout.canary is set.",
    )
    rollout: Rollout = Field(default_factory=Rollout, description="How a new model or template takes over.")
    drain_seconds: int = Field(
        120,
        ge=1,
        le=86400,
        description="A replica that goes finishes its requests; after so long they are cut off.",
    )
    cache: Cache | None = Field(
        None, description="Copy a model from elsewhere to a claim once, or once to each node, and serve it from there."
    )
    stopped: bool = Field(False, description="Take all pods away. false brings the service back.")
    resources: Resources = Field(default_factory=Resources, description="What each pod of a replica asks for.")
    template: PodTemplate = Field(default_factory=PodTemplate, description="Overrides for the replicas' pods.")

    @property
    def lora(self) -> Lora | None:
        """Room for adapters, if there is any."""
        return self.engine_args.lora or (Lora() if self.adapters else None)


class ReplicaCounts(StatusModel):
    """The replicas by how they are doing."""

    desired: int = Field(0, description="How many there should be.")
    ready: int = Field(0, description="Ready ones of the revision that the spec asks for.")
    loading: int = Field(0, description="Pods that aren't ready yet.")
    draining: int = Field(0, description="Pods that finish their requests and go.")
    total: int = Field(0, description="Pods of all revisions that aren't draining.")


class ServedModelStatus(StatusModel):
    """The model as it is pinned."""

    source: str = Field("", description="Where it comes from: trainingjob/tiny, or the URI.")
    uri: str = Field("", description="Where it is.")
    digest: str = Field("", description="Digest of its manifest, where it has one.")
    format: str = Field("", description="What can load it: HuggingFace, GGUF or ONNX.")
    size_bytes: int = Field(0, description="Size of its weights' files.")
    shape: ModelShape | None = Field(None, description="Its sizes, as far as they are known.")
    lineage: list[Ancestor] = Field(
        [], description="What it was made from, back to the text, where it comes from another object."
    )
    problem: str = Field("", description="What is wrong with its files. They are looked at again every minute.")


class ScalingStep(StatusModel):
    """One change of the number of replicas."""

    from_: int = Field(alias="from", description="Replicas before.")
    to: int = Field(description="Replicas after.")
    why: str = Field("", description="What asked for it, with the numbers.")
    time: str = Field("", description="When (RFC 3339).")


class ScalingStatus(StatusModel):
    """What the autoscaler did."""

    last: list[ScalingStep] = Field([], description="The last ten changes, newest last.")


class FailedRevision(StatusModel):
    """A revision that was given up. Another one is tried when the spec asks for it, the same one with a longer deadline.

    One that a canary's gates have stopped is tried again when `rollout.canary` changes.
    """

    revision: str = Field(description="Its name.")
    ready_deadline_seconds: int = Field(0, description="Deadline that it was tried with.")
    canary: str = Field("", description="Digest of the rollout.canary whose gates it failed.")
    reason: str = Field("", description="Why, in one word.")
    message: str = Field("", description="Why, in one sentence.")
    time: str = Field("", description="When it was given up (RFC 3339).")


class GroupEnds(StatusModel):
    """How often replicas of several pods have ended before they were ready: their pods are made anew each time."""

    revision: str = Field(description="Name of their revision.")
    count: int = Field(0, description="How often.")
    pod: str = Field("", description="The pod that ended first, the last time.")
    exit_code: int = Field(0, description="Its exit code.")
    exit_reason: str = Field("", description="Kubernetes' word for it, e.g. OOMKilled.")
    words: str = Field("", description="Its last words.")
    lives: list[str] = Field([], description="UIDs of the replicas' first pods that are there and counted.")


class TrafficShare(StatusModel):
    """Where requests go."""

    revision: str = Field(description="Name of the revision.")
    percent: int = Field(description="Percent of the requests that go to it.")


CanaryPhase = Literal["Loading", "Measuring", "Shifting"]


class CanaryStatus(StatusModel):
    """How far a new revision has come, and what was measured since the beginning of this step."""

    revision: str = Field(description="Its name.")
    phase: CanaryPhase = Field(
        "Loading",
        description="Loading: no request goes to it yet. Measuring: its gates are watched. Shifting: they have held to the last step, and it takes over.",
    )
    percent: int = Field(0, description="Percent of the requests that go to it.")
    step_started_at: str = Field("", description="Since when (RFC 3339).")
    requests: int = Field(0, description="Requests that it has answered in this step.")
    streamed: int = Field(0, description="Of these, streamed ones: only they have a first token.")
    current_streamed: int = Field(0, description="The same of the current revision.")
    error_rate: str = Field("", description="Of its requests, e.g. 0.5%.")
    time_to_first_token: str = Field("", description="Mean of its streamed answers, e.g. 84ms.")
    current_time_to_first_token: str = Field("", description="The same of the current revision.")


class Performance(StatusModel):
    """What the engines measured over the last half minute."""

    tokens_per_second: str = Field("", description="Generated by all replicas together, e.g. 1.2k.")
    time_to_first_token: str = Field("", description="Mean, e.g. 84ms.")


class InferenceServiceStatus(StatusModel):
    """What is, and why."""

    observed_generation: int = Field(0, description="metadata.generation that this status was computed from.")
    phase: ServicePhase = Field("Pending", description="How the service is.")
    reason: str = Field("", description="Why, in one word.")
    message: str = Field("", description="Why, and what to do, in one sentence.")
    conditions: list[Condition] = Field(
        [],
        description="InputsReady, EngineReady, RouterReady, AdaptersReady (where there are adapters), Available, Progressing, Degraded.",
        json_schema_extra=keyed_by("type"),
    )
    url: str = Field("", description="Base URL for OpenAI clients inside the cluster.")
    ready: str = Field(
        "", description="Ready replicas of the revision that the spec asks for, of those that there should be: 2/3."
    )
    replicas: ReplicaCounts = Field(default_factory=ReplicaCounts, description="The replicas by how they are doing.")
    selector: str = Field("", description="Label selector of the replicas' pods, for the scale subresource.")
    current_revision: str = Field("", description="Revision that serves: the last one that got ready.")
    update_revision: str = Field("", description="Revision that the spec asks for.")
    failed_revision: FailedRevision | None = Field(None, description="Revision that was rolled back.")
    group_ends: list[GroupEnds] = Field(
        [], description="Ends of replicas of several pods.", json_schema_extra=keyed_by("revision")
    )
    traffic: list[TrafficShare] = Field(
        [], description="Where requests go, with rollout.canary. Without it ready replicas of all revisions share them."
    )
    canary: CanaryStatus | None = Field(None, description="The new revision on its way to all requests.")
    model: ServedModelStatus | None = Field(None, description="The model as it is pinned.")
    adapters: list[AdapterStatus] = Field(
        [], description="The adapters as they are.", json_schema_extra=keyed_by("name")
    )
    scaling: ScalingStatus = Field(default_factory=ScalingStatus, description="What the autoscaler did.")
    performance: Performance = Field(default_factory=Performance, description="What the engines measured.")
