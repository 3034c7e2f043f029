"""The contract between the operator and the pods of a run: what they are told, what they report, how they end."""

from enum import IntEnum
from typing import ClassVar, Literal

from pydantic import Field

from lmforge_api.base import ApiModel, StatusModel
from lmforge_api.common import Ancestor, ArtifactStatus, CheckpointStatus, InputStatus
from lmforge_api.finetune import FineTuneSpec
from lmforge_api.finetune_results import Published, Rows, TrainedAdapter
from lmforge_api.registry import LOGIN_PATH
from lmforge_api.trainingjob import TrainingJobSpec

RUN_CONFIG_PATH = "/etc/lmforge/run.json"
TERMINATION_LOG = "/dev/termination-log"

Stage = Literal["Starting", "Tokenizing", "Loading", "Training", "Evaluating", "Checkpointing", "Exporting", "Finished"]


class ExitCode(IntEnum):
    """How a workload's process ends. The operator's failure rules read these.

    64 to 79 are ours (sysexits.h starts there too, and no signal or shell uses them).
    """

    OK = 0
    USER_ERROR = 64
    DATA_ERROR = 65
    NON_FINITE_LOSS = 66
    HANG = 67
    OUT_OF_MEMORY = 68
    STORE_FULL = 69
    INTERNAL = 70
    PEER_LOST = 71
    REGISTRY_UNAVAILABLE = 72
    SUSPENDED = 75
    KILLED = 137
    TERMINATED = 143


class Rendezvous(ApiModel):
    """Where rank 0 listens."""

    host: str = Field(description="DNS name of the first pod.")
    port: int = Field(29500, ge=1, le=65535, description="TCP port.")


class StorePaths(ApiModel):
    """Where this run may write."""

    root: str = Field(description="Directory of the run below the store's mount.")
    uri: str = Field("", description="The same place as a URI for people and other objects: pvc://claim/path or s3://…")


class ProgressTarget(ApiModel):
    """Where rank 0 reports to, and with what identity."""

    url: str = Field(description="Full URL of this object's endpoint.")
    token_path: str = Field("/var/run/lmforge/token", description="Projected service-account token.")
    ca_path: str = Field("/etc/lmforge/ca.crt", description="Certificate of the endpoint's authority.")


class AttemptRun(ApiModel):
    """One attempt of a run, as its pods see it."""

    kind: ClassVar[str]

    namespace: str = Field(description="Namespace of the object.")
    name: str = Field(description="Its name.")
    uid: str = Field("", description="Its UID.")
    attempt: int = Field(1, ge=1, description="Number of this attempt.")
    nodes: int = Field(1, ge=1, description="Pods of this attempt.")
    processes_per_node: int = Field(1, ge=1, description="Ranks in each pod.")
    rendezvous: Rendezvous = Field(description="Where ranks meet.")
    store: StorePaths = Field(description="Where to write.")
    progress: ProgressTarget | None = Field(None, description="Where to report; nothing is posted without it.")
    termination_log: str = Field(TERMINATION_LOG, description="Where last words go.")

    @property
    def creator(self) -> str:
        """Who writes, as manifests say it."""
        return f"{self.kind}/{self.namespace}/{self.name} attempt {self.attempt}"

    @property
    def world_size(self) -> int:
        """Ranks of this attempt."""
        return self.nodes * self.processes_per_node


class TrainingRun(AttemptRun):
    """One attempt of a TrainingJob, as its pods see it."""

    kind = "TrainingJob"

    data_parallel: int = Field(
        1, ge=1, description="Data-parallel size of this attempt (elastic runs may differ from the spec)."
    )
    dataset_path: str = Field(description="URI of the training text, resolved: file:///mnt/pvc/<claim>/<path>, s3://…")
    evaluation_path: str | None = Field(
        None, description="URI of the evaluation text, resolved, when the spec names one."
    )
    tokenizer_path: str | None = Field(None, description="URI of an existing tokenizer, resolved.")
    model_path: str | None = Field(None, description="URI of the model to go on from, resolved.")
    spec: TrainingJobSpec = Field(description="The TrainingJob's spec.")


class FineTuneRun(AttemptRun):
    """One attempt of a FineTune, as its pods see it. Its ranks are data-parallel all of them."""

    kind = "FineTune"

    model_path: str = Field(description="URI of the model to teach, resolved: file:///mnt/pvc/<claim>/<path>, hf://…")
    dataset_path: str = Field(description="URI of the rows, resolved.")
    evaluation_path: str | None = Field(
        None, description="URI of the evaluation rows, resolved, when the spec names any."
    )
    teacher_path: str | None = Field(None, description="URI of the teacher, resolved (method distill).")
    inputs: list[InputStatus] = Field(
        [],
        description="The inputs as people know them, for the model card: model, dataset, evaluation, teacher, with source, uri (pvc://claim/path) and, of another object's artifact, digest.",
    )
    lineage: list[Ancestor] = Field([], description="What the inputs were made from, for the model card.")
    login_path: str = Field(LOGIN_PATH, description="Where the Secret of output.publish is mounted.")
    spec: FineTuneSpec = Field(description="The FineTune's spec.")


class EvaluationResult(StatusModel):
    """Loss on the evaluation set."""

    step: int = Field(description="Step it was made after.")
    loss: float = Field(description="Mean over tokens, in nats.")
    perplexity: float = Field(description="exp(loss).")


class FineTuneFigures(StatusModel):
    """What a FineTune's report says besides. What isn't said keeps the value that it has in status."""

    evaluation_before: EvaluationResult | None = Field(
        None, description="The model before the first step (step 0). Later ones are in ProgressReport.evaluation."
    )
    trainable_parameters: int | None = Field(None, ge=0, description="Parameters that are trained.")
    parameters: int | None = Field(None, ge=0, description="Parameters in all, the trained ones among them.")
    epoch: float | None = Field(None, ge=0, description="Times that all rows have been seen.")
    peak_memory_bytes: int | None = Field(
        None, ge=0, description="Most that any rank has had: allocated on its accelerator, or on CPU resident."
    )
    rows: Rows | None = Field(None, description="What became of the dataset's rows, once known.")
    adapter: TrainedAdapter | None = Field(
        None, description="The adapter, once written. ProgressReport.artifact comes with it: merged, or the same."
    )
    published: Published | None = Field(None, description="Where the artifact has been pushed to.")


class ProgressReport(StatusModel):
    """What rank 0 posts about once a second: the latest values."""

    attempt: int = Field(ge=1, description="Attempt that says this; reports of an older one are ignored.")
    stage: Stage = Field("Starting", description="What the workload is at.")
    step: int = Field(0, ge=0, description="Last finished optimizer step.")
    steps: int = Field(0, ge=0, description="Steps in all, once known; after early stopping as many as have been made.")
    start_step: int | None = Field(
        None,
        ge=0,
        description="Step of the checkpoint that it resumed from, or 0; none as long as it looks for a sound one.",
    )
    loss: float | None = Field(None, description="Training loss of the last step (nats a token).")
    learning_rate: float | None = Field(None, description="Learning rate of the last step.")
    gradient_norm: float | None = Field(None, description="Norm of the last step's gradients, before clipping.")
    loss_scale: float | None = Field(None, description="fp16: the loss scale.")
    tokens: int = Field(0, ge=0, description="Tokens trained on since step 0.")
    tokens_per_second: float | None = Field(None, description="All ranks together, over the last steps.")
    eta_seconds: float | None = Field(None, description="Expected time to the last step.")
    evaluation: EvaluationResult | None = Field(None, description="Newest evaluation.")
    checkpoint: CheckpointStatus | None = Field(None, description="Newest complete checkpoint.")
    inputs: list[InputStatus] = Field([], description="Digests of the inputs, once known.")
    artifact: ArtifactStatus | None = Field(None, description="The artifact, once written.")
    derived: dict[str, str] = Field({}, description="What was derived: parameters, vocabulary size, training tokens…")
    fine_tune: FineTuneFigures | None = Field(None, description="What a FineTune says besides.")
    message: str = Field(
        "",
        max_length=1000,
        description="One sentence when there is something to say, e.g. a damaged checkpoint.",
    )


class ExitReport(StatusModel):
    """A pod's last words, in its termination log (at most 4 KiB)."""

    reason: str = Field(
        description="One CamelCase word: OutOfMemory, Hang, NonFiniteLoss, DataError, UserError, PeerLost…"
    )
    message: str = Field("", max_length=3000, description="One sentence: what, where, what to do.")
    step: int = Field(0, description="Last finished step.")
    rank: int = Field(0, description="Rank that says this.")
    progress: ProgressReport | None = Field(
        None,
        description="The newest report of rank 0, also after a success: what counts must not depend on the operator being there to hear it.",
    )


class ProgressReply(StatusModel):
    """What the operator answers."""

    stop: bool = Field(False, description="Save a checkpoint, report it, and exit with ExitCode.SUSPENDED.")
