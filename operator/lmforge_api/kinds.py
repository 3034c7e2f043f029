"""Every kind of LMForge, one line each: CRDs, RBAC, watches and the CLI are made from this table."""

from dataclasses import dataclass

from lmforge_api.base import API_VERSION, CATEGORY, GROUP, ApiModel, Rule, StatusModel
from lmforge_api.finetune import FineTuneSpec, FineTuneStatus
from lmforge_api.inferenceservice import InferenceServiceSpec, InferenceServiceStatus
from lmforge_api.trainingjob import TrainingJobSpec, TrainingJobStatus

MAX_NAME_LENGTH = 63 - len("-isvc-99999-16383")
"""A pod's host name is <name>-<short name>-<attempt>-<index> and has at most 63 characters."""


@dataclass(frozen=True)
class Column:
    """What `kubectl get` prints of an object. `wide` ones only with -o wide."""

    name: str
    path: str
    description: str
    type: str = "string"
    wide: bool = False


@dataclass(frozen=True)
class Scale:
    """Where the scale subresource finds its numbers: `kubectl scale`, HPA and KEDA use it."""

    wanted: str = ".spec.replicas"
    actual: str = ".status.replicas.total"
    selector: str = ".status.selector"


@dataclass(frozen=True)
class Kind:
    """A custom resource definition."""

    kind: str
    plural: str
    short_names: tuple[str, ...]
    description: str
    spec: type[ApiModel]
    status: type[StatusModel]
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...] = ()
    scale: Scale | None = None

    @property
    def singular(self) -> str:
        """The kind in lower case, as in `kubectl get trainingjob`."""
        return self.kind.lower()

    @property
    def crd_name(self) -> str:
        """Name of the CustomResourceDefinition."""
        return f"{self.plural}.{GROUP}"

    @property
    def api_version(self) -> str:
        """apiVersion of the objects."""
        return API_VERSION

    @property
    def category(self) -> str:
        """What `kubectl get` shows it under together with the other kinds."""
        return CATEGORY


NAME_RULES = (
    Rule(
        f"size(self.metadata.name) <= {MAX_NAME_LENGTH}",
        f"metadata.name has {{size(self.metadata.name)}} characters: write at most {MAX_NAME_LENGTH}, since its pods' "
        "names are longer, and a host name has at most 63",
    ),
    Rule(
        "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "metadata.name {self.metadata.name} becomes part of DNS names: start with a letter, go on with lower-case "
        "letters, digits and '-', and don't end with '-'",
    ),
)


def not_from_itself(kind: str, *, field: str = "model", unless: str = "false") -> Rule:
    """An object that goes on from its own artifact would wait for itself."""
    source = f"self.spec.{field}.from"
    return Rule(
        f"{unless} || !has({source}) || {source}.kind != '{kind}' || {source}.name != self.metadata.name",
        f"spec.{field}.from names this object itself, which would wait for its own end: name another",
        path=f".spec.{field}.from.name",
    )


ADAPTERS_HAVE_NAMES_OF_THEIR_OWN = Rule(
    "!self.spec.adapters.exists(adapter, adapter.name == self.metadata.name)",
    "spec.adapters has an adapter {self.metadata.name}, which is the name of the service and its model: give it another",
    path=".spec.adapters",
)

AGE = Column("Age", ".metadata.creationTimestamp", "Time since it was created.", type="date")


def run_columns(*more: Column) -> tuple[Column, ...]:
    """Columns of a run kind, with those of its own after the loss and, wide ones, at the end."""
    return (
        *_RUN_COLUMNS[:4],
        *(column for column in more if not column.wide),
        *_RUN_COLUMNS[4:],
        *(column for column in more if column.wide),
    )


_RUN_COLUMNS = (
    Column("Phase", ".status.phase", "Where the run is."),
    Column("Progress", ".status.progress.percent", "Share of the steps done."),
    Column("Step", ".status.progress.display", "Steps done, of all."),
    Column("Loss", ".status.progress.loss", "Training loss (nats a token)."),
    Column("Tokens/s", ".status.progress.tokensPerSecond", "Throughput of all ranks together."),
    Column("ETA", ".status.progress.eta", "Expected time to the last step."),
    Column("Restarts", ".status.restarts", "Attempts after the first.", type="integer"),
    AGE,
    Column("Reason", ".status.reason", "Why it is in this phase.", wide=True),
    Column("Nodes", ".status.nodes", "Pods of the current attempt.", type="integer", wide=True),
    Column("Last Checkpoint", ".status.checkpoint.step", "Step to resume from.", type="integer", wide=True),
    Column("Artifact", ".status.artifact.uri", "What it has left.", wide=True),
)

SERVICE_COLUMNS = (
    Column("Phase", ".status.phase", "How the service is."),
    Column("URL", ".status.url", "Base URL for OpenAI clients inside the cluster."),
    Column("Ready", ".status.ready", "Ready replicas, of those that there should be."),
    Column("Model", ".status.model.source", "Where the model comes from."),
    Column("Engine", ".spec.engine", "What runs it."),
    Column("Tokens/s", ".status.performance.tokensPerSecond", "Generated by all replicas together."),
    AGE,
    Column("Reason", ".status.reason", "Why it is in this phase.", wide=True),
    Column("Revision", ".status.currentRevision", "Revision that serves.", wide=True),
    Column("Canary", ".status.canary.percent", "Percent of requests to a new one.", type="integer", wide=True),
    Column("TTFT", ".status.performance.timeToFirstToken", "Mean time to the first token.", wide=True),
)

KINDS: tuple[Kind, ...] = (
    Kind(
        kind="TrainingJob",
        plural="trainingjobs",
        short_names=("tj",),
        description="TrainingJob pre-trains a language model on many pods with data, tensor and pipeline parallelism. "
        "It resumes from its last checkpoint whatever fails, and leaves a Hugging Face directory.",
        spec=TrainingJobSpec,
        status=TrainingJobStatus,
        columns=run_columns(),
        rules=(*NAME_RULES, not_from_itself("TrainingJob")),
    ),
    Kind(
        kind="FineTune",
        plural="finetunes",
        short_names=("ft",),
        description="FineTune teaches a model that exists, from rows of text, conversations or preferences: all of its "
        "weights, an adapter (LoRA, QLoRA), or a student by its teacher's logits. It resumes from its last checkpoint "
        "whatever fails, and leaves a Hugging Face directory, an adapter, or both.",
        spec=FineTuneSpec,
        status=FineTuneStatus,
        columns=run_columns(
            Column("Eval Loss", ".status.progress.evaluationLoss", "Loss on the evaluation rows (nats a token)."),
            Column("Method", ".spec.method", "How it is taught.", wide=True),
            Column("Before", ".status.evaluation.lossBefore", "The same before the first step.", wide=True),
            Column("Trainable", ".status.trainable.share", "Share of the parameters that is trained.", wide=True),
            Column("Memory", ".status.peakMemory", "Most that a rank has had at once.", wide=True),
        ),
        rules=(
            *NAME_RULES,
            not_from_itself("FineTune"),
            not_from_itself("FineTune", field="distill.teacher", unless="!has(self.spec.distill)"),
        ),
    ),
    Kind(
        kind="InferenceService",
        plural="inferenceservices",
        short_names=("isvc",),
        description="InferenceService serves a language model behind an OpenAI-compatible URL. It scales with the load, "
        "to zero if it may, and takes up new models without losing a request.",
        spec=InferenceServiceSpec,
        status=InferenceServiceStatus,
        columns=SERVICE_COLUMNS,
        rules=(*NAME_RULES, ADAPTERS_HAVE_NAMES_OF_THEIR_OWN),
        scale=Scale(),
    ),
)
