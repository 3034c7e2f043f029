"""The parts of a FineTune's spec, each with the rules between its own fields."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.config import JsonDict

from lmforge_api.base import ApiModel, Rule
from lmforge_api.finetune_dataset import RowSource
from lmforge_api.oci import REGISTRY, REPOSITORY, TAG
from lmforge_api.registry import RegistryAccess
from lmforge_api.sources import KV_HEADS_SHARE_HEADS, ModelReference, heads_share_the_width
from lmforge_api.training import NODES_WITHIN_ELASTIC, AdamW, Decay, Elastic, EvaluationPlan
from lmforge_api.uris import Uri

Method = Literal["full", "lora", "qlora", "distill", "dpo"]
Layers = Annotated[list[Annotated[int, Field(ge=0, le=1023)]], Field(max_length=1024)]
ModuleName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$", max_length=253)]

_A_SET: JsonDict = {"x-kubernetes-list-type": "set"}


class Lora(ApiModel):
    """Low-rank adapters (arXiv:2106.09685): W + alpha / rank · B A, of which only A and B are trained."""

    rank: int = Field(16, ge=1, le=512, description="Rank of A and B. Σ rank × (inputs + outputs) are trained.")
    alpha: float = Field(32, gt=0, le=65536, description="The change counts alpha / rank times.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before A.")
    target_modules: list[ModuleName] = Field(
        [],
        max_length=64,
        description="Names of the linear layers that get one, as their paths end: q_proj, mlp.down_proj. Default: all linear layers of the blocks, by the model's architecture.",
        json_schema_extra=_A_SET,
    )
    rslora: bool = Field(False, description="alpha / √rank in place of alpha / rank (arXiv:2312.03732).")
    dora: bool = Field(False, description="Magnitude and direction apart (arXiv:2402.09353); slower.")


class Qlora(ApiModel):
    """The base model quantised by bitsandbytes while adapters are trained on it (arXiv:2305.14314)."""

    cel_rules = (
        Rule(
            cel="self.bits in [4, 8]",
            message="qlora.bits is {self.bits}, and bitsandbytes stores weights in 4 or 8 bits: write one of them",
            path=".bits",
        ),
        Rule(
            cel="self.bits == 4 || !has(self.type)",
            message="qlora.type is about 4 bits: leave it out with bits: {self.bits}",
            path=".type",
        ),
        Rule(
            cel="self.bits == 4 || !has(self.doubleQuant)",
            message="qlora.doubleQuant is about 4 bits: leave it out with bits: {self.bits}",
            path=".doubleQuant",
        ),
    )
    bits: int = Field(4, ge=1, le=32, description="Bits of a weight: 4, or 8 (LLM.int8, arXiv:2208.07339).")
    type: Literal["nf4", "fp4"] | None = Field(
        None, description="Which 16 values 4 bits stand for. Default: nf4, quantiles of a normal distribution."
    )
    double_quant: bool | None = Field(
        None, description="Quantise the scales of the blocks too: 0.37 bits less for each weight. Default: true."
    )


class StudentShape(ApiModel):
    """Sizes of a student with new weights, drawn from the seed."""

    cel_rules = (heads_share_the_width(), KV_HEADS_SHARE_HEADS)
    layers: int = Field(ge=1, le=512, description="Transformer blocks.")
    hidden_size: int = Field(ge=8, le=65536, description="Width of the residual stream.")
    heads: int = Field(ge=1, le=1024, description="Attention heads.")
    kv_heads: int | None = Field(None, ge=1, le=1024, description="Key/value heads. Default: heads.")
    intermediate_size: int | None = Field(
        None,
        ge=8,
        le=262144,
        description="Width of the feed-forward block. Default: as many times the width as in the model.",
    )


class StudentInit(ApiModel):
    """How a student smaller than `model` comes about."""

    cel_rules = (
        Rule(
            cel="(self.keepLayers.size() > 0 ? 1 : 0) + (self.dropLayers.size() > 0 ? 1 : 0) + (has(self.shape) ? 1 : 0) == 1",
            message="distill.init needs exactly one of keepLayers, dropLayers (of model) or shape (new weights); without init the student is model as it is",
        ),
    )
    keep_layers: Layers = Field(
        [],
        description="The student has these layers of model alone, counted from 0.",
        json_schema_extra=_A_SET,
    )
    drop_layers: Layers = Field(
        [], description="The student lacks these layers of model, counted from 0.", json_schema_extra=_A_SET
    )
    shape: StudentShape | None = Field(
        None, description="The student has model's architecture and tokenizer, but these sizes and new weights."
    )


class Distill(ApiModel):
    """What a student learns from a teacher: alpha · CE(student, label) + beta · T² · KL(student ‖ teacher), over logits."""

    cel_rules = (
        Rule(
            cel="self.alpha > 0.0 || self.beta > 0.0",
            message="distill.alpha and distill.beta are both 0, so that nothing would be learned: write one above 0",
            path=".alpha",
        ),
        Rule(
            cel="self.beta > 0.0 || self.onPolicy == 0.0",
            message="distill.onPolicy has the teacher judge the student's own text, which beta: 0 leaves out: write beta above 0, or onPolicy: 0",
            path=".onPolicy",
        ),
    )
    teacher: ModelReference = Field(description="Which model is learned from. It needs the student's vocabulary.")
    init: StudentInit | None = Field(None, description="Make the student smaller than model first.")
    alpha: float = Field(0.5, ge=0, le=1000, description="Weight of the labels' cross-entropy.")
    beta: float = Field(0.5, ge=0, le=1000, description="Weight of the divergence from the teacher.")
    temperature: float = Field(2.0, gt=0, le=100, description="T: logits of both are divided by it (arXiv:1503.02531).")
    on_policy: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the batches whose answers the student writes itself, and the teacher judges (arXiv:2306.13649).",
    )


class Dpo(ApiModel):
    """Direct preference optimisation (arXiv:2305.18290), against the model as it was before."""

    beta: float = Field(0.1, gt=0, le=100, description="How closely the model keeps to what it was.")


class FineTuneOptimizer(AdamW):
    """AdamW (arXiv:1711.05101), as transformers' Trainer has it."""

    kind: Literal["adamw", "adamw-8bit", "paged-adamw-8bit"] = Field(
        "adamw",
        description="8bit: moments in 8 bits (bitsandbytes, arXiv:2110.02861); paged: moved to the host's memory when the accelerator's runs out.",
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=10,
        description="Peak learning rate. Default: 2e-4 for adapters, 2e-5 for full, 5e-5 for distill, for dpo 5e-6 with lora and 1e-6 without.",
    )
    beta2: float = Field(0.999, ge=0, lt=1, description="Decay of the second moment.")
    weight_decay: float = Field(0.0, ge=0, le=10, description="Decoupled weight decay.")


class FineTuneSchedule(Decay):
    """Learning rate over steps: linear warm-up, then decay to a minimum."""

    warmup_ratio: float = Field(0.03, ge=0, lt=1, description="Share of the steps from zero to the peak.")
    minimum_ratio: float = Field(0.0, ge=0, le=1, description="Learning rate at the last step, as a share of the peak.")


class EarlyStopping(ApiModel):
    """End when evaluations don't get better; the artifact has the weights of the best one."""

    patience: int = Field(3, ge=1, le=1000, description="Evaluations in a row without a better one.")
    min_delta: float = Field(
        0.0, ge=0, le=100, description="How much lower the loss has to be to count (nats a token)."
    )


class FineTuneEvaluation(EvaluationPlan):
    """Loss on rows that are not trained on: before the first step, on the way, and after the last."""

    dataset: RowSource | None = Field(
        None, description="Rows to evaluate on, like those of dataset. Default: dataset.split holds some out."
    )
    samples: int = Field(256, ge=1, le=1_000_000, description="Rows to evaluate on, at most.")


class Distributed(ApiModel):
    """Data-parallel ranks, and what they share out among themselves."""

    cel_rules = (NODES_WITHIN_ELASTIC,)
    immutable_fields = ("strategy", "nodes", "processesPerNode")

    strategy: Literal["ddp", "fsdp2", "zero1", "zero2", "zero3"] = Field(
        "ddp",
        description="ddp: each rank has all. zero1 to 3 (DeepSpeed, arXiv:1910.02054): ranks share optimizer states; and gradients; and parameters. fsdp2 (PyTorch's fully_shard): all three.",
    )
    nodes: int = Field(1, ge=1, le=16384, description="Pods, one a node; each runs processesPerNode ranks.")
    processes_per_node: int | None = Field(
        None, ge=1, le=64, description="Ranks in each pod. Default: resources.count, or on CPU one."
    )
    elastic: Elastic | None = Field(
        None,
        description="Go on with the nodes there are: after a failure the next attempt takes between minNodes and maxNodes.",
    )


class Publish(RegistryAccess):
    """Where the artifact is pushed to."""

    cel_rules = (
        Rule(
            cel=f"self.uri.matches('^oci://{REGISTRY}/{REPOSITORY}:{TAG}$')",
            message="output.publish.uri names the tag that the artifact gets: write oci://<registry>/<repository>:<tag>, the repository in lowercase, without a digest",
            path=".uri",
        ),
    )
    uri: Uri = Field(
        description="oci://<registry>/<repository>:<tag>. Files are layers as CNCF ModelPack has them; the tag comes last, so nobody sees half an artifact."
    )


class Output(ApiModel):
    """What is left."""

    merge: bool | None = Field(
        None,
        description="Of a trained adapter: true leaves the base model with it merged in, and the adapter beside; false the adapter alone, for adapters[].from of an InferenceService that serves the base. Default: true.",
    )
    publish: Publish | None = Field(
        None,
        description="Push the artifact to an OCI registry too, when it is complete in the store. The run succeeds once it is there; as long as the registry can't be reached it is tried again.",
    )
