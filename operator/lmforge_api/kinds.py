"""Every kind of LMForge, one line each: CRDs, RBAC, watches and the CLI are made from this table."""

from dataclasses import dataclass

from lmforge_api.base import API_VERSION, CATEGORY, GROUP, ApiModel, Rule, StatusModel
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


def not_from_itself(kind: str) -> Rule:
    """An object that goes on from its own artifact would wait for itself."""
    return Rule(
        f"!has(self.spec.model.from) || self.spec.model.from.kind != '{kind}' || "
        "self.spec.model.from.name != self.metadata.name",
        "spec.model.from names this object itself, which would wait for its own end: name another",
        path=".spec.model.from.name",
    )


AGE = Column("Age", ".metadata.creationTimestamp", "Time since it was created.", type="date")

RUN_COLUMNS = (
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

KINDS: tuple[Kind, ...] = (
    Kind(
        kind="TrainingJob",
        plural="trainingjobs",
        short_names=("tj",),
        description="TrainingJob pre-trains a language model on many pods with data, tensor and pipeline parallelism. "
        "It resumes from its last checkpoint whatever fails, and leaves a Hugging Face directory.",
        spec=TrainingJobSpec,
        status=TrainingJobStatus,
        columns=RUN_COLUMNS,
        rules=(*NAME_RULES, not_from_itself("TrainingJob")),
    ),
)
