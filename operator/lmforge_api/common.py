"""The parts of the API that several kinds share."""

from typing import Annotated, Any, Literal

from pydantic import Field

from lmforge_api.base import ApiModel, Rule, StatusModel, keyed_by

Quantity = Annotated[
    str,
    Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?$", max_length=32, examples=["500m", "4Gi"]),
]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
LabelValue = Annotated[str, Field(pattern=r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$", max_length=63)]
FreeForm = Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]

_LABEL_KEY = "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
_RESERVED_KEY = "^([a-z0-9.-]*[.])?(lmforge[.]dev|batch[.]kubernetes[.]io)/"


class ObjectRef(ApiModel):
    """Another LMForge object of the same namespace, whose artifact is used once it is ready."""

    kind: Literal["Dataset", "TrainingJob", "FineTune", "QuantizeJob"] = Field(description="Kind of the object.")
    name: Name = Field(description="Name of the object, in the same namespace.")


class Resources(ApiModel):
    """What each pod (node) of the run asks for. Requests equal limits for memory and accelerators."""

    cel_rules = (
        Rule(
            cel="has(self.accelerator) == has(self.count)",
            message="resources.accelerator and resources.count go together: name the device (nvidia.com/gpu) and how many each pod gets, or leave both out to run on CPU",
        ),
        Rule(
            cel="quantity(self.memory).isGreaterThan(quantity(self.sharedMemory))",
            message="resources.sharedMemory {self.sharedMemory} counts towards resources.memory {self.memory}, which must be larger: raise memory",
            path=".memory",
        ),
    )
    accelerator: str | None = Field(
        None,
        max_length=253,
        pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$",
        description="Extended resource of the accelerator, e.g. nvidia.com/gpu. Without it the run uses CPUs (gloo).",
    )
    count: int | None = Field(None, ge=1, le=64, description="Accelerators for each pod; one process runs on each.")
    cpu: Quantity = Field("1", description="CPU request of each pod. Not a limit: a throttled rank slows all of them.")
    memory: Quantity = Field("4Gi", description="Memory request and limit of each pod.")
    shared_memory: Quantity = Field("1Gi", description="Size of /dev/shm in each pod; counts towards memory.")


class Scheduling(ApiModel):
    """Queueing and placement; mapped to Kueue, Volcano or the coscheduling plug-in where they are installed."""

    queue: Name | None = Field(None, description="Kueue LocalQueue that admits this run.")
    priority_class_name: Name | None = Field(None, description="PriorityClass of the pods.")
    gang: Literal["none", "volcano", "coscheduling"] = Field(
        "none", description="Who makes sure that all pods start together or none does."
    )
    topology_key: str | None = Field(
        None,
        max_length=253,
        description="Node label that all pods should share, e.g. a rack or an NVLink domain.",
    )


RESERVED_VARIABLES = [
    "JOB_COMPLETION_INDEX",
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
]


class EnvVar(ApiModel):
    """An environment variable for the workload's container, e.g. NCCL_SOCKET_IFNAME."""

    cel_rules = (
        Rule(
            cel=f"!(self.name in {RESERVED_VARIABLES})",
            message="template.env can't set {self.name}: ranks and their meeting place come from parallelism and nodes; leave it out",
            path=".name",
        ),
    )
    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=253, description="Name of the variable.")
    value: str = Field("", max_length=4096, description="Value. For secrets use template.envFrom.")


def _keys_are_labels(field: str) -> tuple[Rule, ...]:
    return (
        Rule(
            cel=f"self.{field}.all(key, key.size() <= 317 && key.matches('{_LABEL_KEY}'))",
            message=f"template.{field} has a key that Kubernetes does not take: write <name> or <domain>/<name>",
            path=f".{field}",
        ),
        Rule(
            cel=f"!self.{field}.exists(key, key.matches('{_RESERVED_KEY}'))",
            message=f"template.{field} can't use keys of lmforge.dev or batch.kubernetes.io, by which a run finds its pods: use your own domain",
            path=f".{field}",
        ),
    )


class PodTemplate(ApiModel):
    """Overrides for the pods of a run. The operator's own fields win over what would break the run."""

    cel_rules = (
        *_keys_are_labels("labels"),
        *_keys_are_labels("annotations"),
    )
    image: str | None = Field(
        None, max_length=512, pattern=r"^[^\s]+$", description="Image to run instead of the one that the chart names."
    )
    image_pull_secrets: list[Name] = Field([], max_length=16, description="Names of Secrets for pulling the image.")
    labels: dict[str, LabelValue] = Field({}, max_length=64, description="More labels for the pods.")
    annotations: dict[str, Annotated[str, Field(max_length=4096)]] = Field(
        {}, max_length=64, description="More annotations for the pods."
    )
    node_selector: dict[str, LabelValue] = Field({}, max_length=64, description="Labels that a node must have.")
    tolerations: list[FreeForm] = Field([], max_length=32, description="Tolerations, as in a Pod.")
    affinity: FreeForm | None = Field(None, description="Affinity, as in a Pod.")
    service_account_name: Name | None = Field(None, description="Service account of the pods (no token is mounted).")
    env: list[EnvVar] = Field(
        [], max_length=64, description="More environment variables.", json_schema_extra=keyed_by("name")
    )
    env_from: list[Name] = Field([], max_length=16, description="Names of Secrets whose keys become variables.")


class Condition(StatusModel):
    """A Kubernetes condition."""

    type: str = Field(max_length=316, description="Type of the condition, e.g. InputsReady.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: str = Field("", max_length=1024, description="One CamelCase word for programs.")
    message: str = Field("", max_length=32768, description="One sentence for people.")
    last_transition_time: str | None = Field(None, description="When status last changed (RFC 3339).")
    observed_generation: int | None = Field(None, description="metadata.generation that this was computed from.")


class Progress(StatusModel):
    """How far a run is. The strings are what `kubectl get` prints."""

    step: int = Field(0, description="Last finished optimizer step.")
    steps: int = Field(0, description="Steps in all.")
    percent: str = Field("", description="Share done, e.g. 62%.")
    display: str = Field("", description="Steps as 248/400.")
    loss: str = Field("", description="Training loss (nats a token), e.g. 3.41.")
    evaluation_loss: str = Field("", description="Loss on the evaluation set (nats a token).")
    perplexity: str = Field("", description="exp(evaluation loss).")
    tokens_per_second: str = Field("", description="Throughput of all ranks together, e.g. 18.2k.")
    tokens: int = Field(0, description="Tokens trained on.")
    eta: str = Field("", description="Expected time to the last step, e.g. 1m40s.")
    stage: str = Field(
        "", description="What the workload is at: Starting, Tokenizing, Training, Checkpointing, Exporting…"
    )
    updated_at: str | None = Field(None, description="When the workload last reported (RFC 3339).")


class Attempt(StatusModel):
    """One try: one Job. The newest is last; at most the last twenty are kept."""

    number: int = Field(description="1 for the first.")
    started_at: str | None = Field(None, description="When the Job was created (RFC 3339).")
    queue: str = Field("", description="Kueue LocalQueue that it had to pass.")
    admitted_at: str | None = Field(None, description="When that queue let it start (RFC 3339).")
    ended_at: str | None = Field(None, description="When it was over (RFC 3339).")
    outcome: Literal["Running", "Succeeded", "Failed", "Suspended", "Preempted"] = Field(
        "Running", description="How it ended."
    )
    reason: str = Field(
        "", description="Why, in one word: OutOfMemory, Hang, NodeLost, PodDeleted, NonFiniteLoss, DataError…"
    )
    message: str = Field("", description="Why, in one sentence.")
    pod: str = Field("", description="Pod that ended it.")
    node: str = Field("", description="Node of that pod.")
    exit_code: int | None = Field(None, description="Exit code of that pod's container.")
    start_step: int = Field(0, description="Step of the checkpoint that it resumed from.")
    step: int = Field(0, description="Last step that it reached.")
    nodes: int = Field(0, description="Pods that it ran on.")
    counted: bool = Field(False, description="Whether its failure counts towards failurePolicy.maxRestarts.")


class CheckpointStatus(StatusModel):
    """The newest complete checkpoint."""

    step: int = Field(description="Step that it was taken after.")
    uri: str = Field("", description="Where it is.")
    digest: str = Field("", description="Digest of its manifest.")
    time: str | None = Field(None, description="When it was complete (RFC 3339).")


class InputStatus(StatusModel):
    """An input as it was pinned when the first attempt started."""

    name: str = Field(description="Which input: dataset, model, tokenizer, evaluation.")
    source: str = Field("", description="Where it comes from, as the spec says it.")
    uri: str = Field("", description="Where it was found.")
    digest: str = Field("", description="Digest of its contents.")


class Ancestor(StatusModel):
    """What an artifact was made from, or what that was made from."""

    by: str = Field(description="Object that made something of it, e.g. TrainingJob/tiny.")
    name: str = Field(description="As which of its inputs: dataset, model, tokenizer, evaluation.")
    uri: str = Field("", description="Where it was.")
    digest: str = Field("", description="Digest of its contents.")


class ModelShape(StatusModel):
    """Sizes of a transformer that whoever runs it has to know."""

    layers: int = Field(description="Number of layers.")
    heads: int = Field(description="Attention heads of a layer.")
    kv_heads: int = Field(description="Heads of keys and values.")
    head_size: int = Field(description="Width of a head.")
    context_length: int = Field(description="Most tokens of prompt and answer together.")


ADAPTER_FORMAT = "PEFT"
"""`ArtifactStatus.format` of an adapter (adapter_config.json, adapter_model.safetensors), which is no whole model."""


class ArtifactStatus(StatusModel):
    """What the run has left."""

    uri: str = Field(description="Where it is, e.g. pvc://lmforge-store/trainingjob/default/tiny-1a2b3c4d/artifact.")
    digest: str = Field(description="Digest of its manifest: the artifact's identity.")
    size_bytes: int = Field(0, description="Size of all files.")
    format: str = Field("", description="What can load it: HuggingFace, PEFT (an adapter), or the workload's own.")
    shape: ModelShape | None = Field(None, description="Sizes of the model, if it is a transformer.")


RunPhase = Literal["Pending", "Starting", "Running", "Restarting", "Suspending", "Suspended", "Succeeded", "Failed"]


class RunStatus(StatusModel):
    """Status of a run kind: what is, and why."""

    observed_generation: int = Field(0, description="metadata.generation that this status was computed from.")
    phase: RunPhase = Field("Pending", description="Where the run is.")
    reason: str = Field("", description="Why, in one word.")
    message: str = Field("", description="Why, and what to do, in one sentence.")
    conditions: list[Condition] = Field(
        [],
        description="InputsReady, Scheduled, Running, Complete, Failed, Suspended…",
        json_schema_extra=keyed_by("type"),
    )
    progress: Progress = Field(default_factory=Progress, description="How far it is.")
    attempts: list[Attempt] = Field([], description="Every try, newest last.", json_schema_extra=keyed_by("number"))
    restarts: int = Field(0, description="Attempts after the first.")
    nodes: int = Field(0, description="Pods of the current attempt.")
    checkpoint: CheckpointStatus | None = Field(None, description="Newest complete checkpoint.")
    inputs: list[InputStatus] = Field([], description="Inputs, pinned by digest.", json_schema_extra=keyed_by("name"))
    lineage: list[Ancestor] = Field(
        [], description="What its inputs were made from, back to the text, where they come from other objects."
    )
    artifact: ArtifactStatus | None = Field(None, description="What it has left.")
    started_at: str | None = Field(None, description="When the first attempt started (RFC 3339).")
    finished_at: str | None = Field(None, description="When the run ended (RFC 3339).")
    derived: dict[str, str] = Field(
        {}, description="What was derived from the spec: world size, accumulation steps, processes a node…"
    )
