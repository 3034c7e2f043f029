"""TrainingJob: pre-train a language model on many pods with data, tensor and pipeline parallelism."""

from typing import Literal

from pydantic import Field

from lmforge_api.base import ApiModel, Rule
from lmforge_api.common import RunStatus
from lmforge_api.run_fields import RunFields
from lmforge_api.sources import (
    DatasetSource,
    ModelInit,
    ModelSource,
    TextSource,
    TokenizerSource,
    TokenizerTraining,
)
from lmforge_api.training import AdamW, Batch, Checkpoints, Decay, Elastic, EvaluationPlan, Precision
from lmforge_api.trainingjob_rules import RULES

__all__ = [
    "Batch",
    "Checkpointing",
    "DatasetSource",
    "Elastic",
    "Evaluation",
    "ModelInit",
    "ModelSource",
    "Optimizer",
    "Parallelism",
    "Schedule",
    "TextSource",
    "TokenizerSource",
    "TokenizerTraining",
    "TrainingJobSpec",
    "TrainingJobStatus",
    "Zero",
    "ZeroOffload",
]


class Parallelism(ApiModel):
    """How the model and the batch are split. data × tensor × pipeline is the world size."""

    data: int = Field(1, ge=1, le=65536, description="Replicas, each with its own part of every batch.")
    tensor: int = Field(
        1, ge=1, le=64, description="Ranks that share each layer's matrices (Megatron-LM, arXiv:1909.08053)."
    )
    pipeline: int = Field(1, ge=1, le=256, description="Stages that the layers are cut into (GPipe/1F1B).")


class ZeroOffload(ApiModel):
    """What leaves the accelerator's memory for the host's."""

    optimizer: Literal["none", "cpu"] = Field("none", description="Where optimizer states live (stage 1 and up).")
    parameters: Literal["none", "cpu"] = Field("none", description="Where parameters live (stage 3).")


class Zero(ApiModel):
    """DeepSpeed ZeRO: what is partitioned over the data-parallel ranks (arXiv:1910.02054)."""

    cel_rules = (
        Rule(
            cel="self.offload.optimizer == 'none' || self.stage >= 1",
            message="zero.offload.optimizer needs zero.stage 1 or more, which gives each rank its part: write stage: 1",
            path=".offload.optimizer",
        ),
        Rule(
            cel="self.offload.parameters == 'none' || self.stage == 3",
            message="zero.offload.parameters needs zero.stage 3, which partitions them, not {self.stage}: write stage: 3",
            path=".offload.parameters",
        ),
    )
    stage: int = Field(1, ge=0, le=3, description="0 nothing, 1 optimizer states, 2 and gradients, 3 and parameters.")
    offload: ZeroOffload = Field(default_factory=ZeroOffload, description="What to offload to host memory.")
    overlap_comm: bool = Field(True, description="Reduce gradients while the backward pass still runs.")
    reduce_bucket_size: int = Field(500_000_000, ge=1000, description="Elements reduced at a time.")
    allgather_partitions: bool = Field(
        True, description="Gather updated parameters by one all-gather, not by broadcasts."
    )
    allgather_bucket_size: int = Field(500_000_000, ge=1000, description="Elements gathered at a time.")
    contiguous_gradients: bool = Field(True, description="Copy gradients into one buffer as they are made.")


class Optimizer(AdamW):
    """AdamW (arXiv:1711.05101). Weight decay applies to matrices only."""

    learning_rate: float = Field(3e-4, gt=0, le=10, description="Peak learning rate.")


class Schedule(Decay):
    """Learning rate over steps: linear warm-up, then decay to a minimum."""

    warmup_steps: int = Field(0, ge=0, description="Steps from zero to the peak.")


class Checkpointing(Checkpoints):
    """How much work a failure can cost, and how many checkpoints are kept."""

    async_: bool = Field(True, alias="async", description="Write in the background while training goes on.")


class Evaluation(EvaluationPlan):
    """Loss on text that is not trained on."""

    dataset: TextSource | None = Field(
        None, description="Text to evaluate on. Default: a part of the training text is held out."
    )
    holdout: float = Field(
        0.02, gt=0, le=0.5, description="Share of the training documents held out when no dataset is named."
    )


class TrainingJobSpec(RunFields):
    """What to train, on what, how, and with which resources."""

    immutable_fields = (
        "model", "dataset", "sequenceLength", "engine", "parallelism", "zero", "precision", "batch", "optimizer",
        "schedule", "steps", "seed", "evaluation", "nodes", "processesPerNode",
    )  # fmt: skip
    cel_rules = RULES

    model: ModelSource = Field(description="Which model is trained.")
    dataset: DatasetSource = Field(description="Text to train on.")
    sequence_length: int = Field(512, ge=8, le=1_048_576, description="Tokens in one sample.")
    engine: Literal["deepspeed", "megatron"] = Field(
        "deepspeed", description="Training engine; megatron needs an accelerator."
    )
    parallelism: Parallelism = Field(
        default_factory=Parallelism,
        description="How the work is split over ranks: data × tensor × pipeline is the number of ranks, and has to be nodes × processesPerNode. Split by tensor inside a node when a layer is too large for one rank, by pipeline over nodes when the model is, and by data to go faster.",
    )
    zero: Zero = Field(
        default_factory=Zero,
        description="DeepSpeed ZeRO: what data-parallel ranks share out among themselves to save memory (arXiv:1910.02054). Stages 2 and 3 need parallelism.pipeline: 1.",
    )
    precision: Precision = Field("bf16", description="Arithmetic of the model; fp16 scales its loss dynamically.")
    batch: Batch = Field(
        default_factory=Batch,
        description="Samples a step. Each rank accumulates gradients over global / (micro × parallelism.data) micro batches.",
    )
    optimizer: Optimizer = Field(default_factory=Optimizer, description="AdamW's settings (arXiv:1711.05101).")
    schedule: Schedule = Field(default_factory=Schedule, description="Learning rate over steps.")
    steps: int = Field(1000, ge=1, le=100_000_000, description="Optimizer steps in all.")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of the weights and of the order of samples.")
    checkpoint: Checkpointing = Field(default_factory=Checkpointing, description="When and how the state is saved.")
    evaluation: Evaluation = Field(default_factory=Evaluation, description="When and on what the model is evaluated.")
    activation_checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass to save memory."
    )
    nodes: int = Field(1, ge=1, le=16384, description="Pods, one a node; each runs processesPerNode ranks.")
    processes_per_node: int | None = Field(
        None,
        ge=1,
        le=64,
        description="Ranks in each pod. Default: resources.count, or on CPU the world size / nodes.",
    )
    elastic: Elastic | None = Field(
        None,
        description="Go on with the nodes there are: after a failure the next attempt takes between minNodes and maxNodes. Data parallelism shrinks and grows with them, tensor and pipeline stay.",
    )


class TrainingJobStatus(RunStatus):
    """What is, and why."""
