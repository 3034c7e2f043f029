"""FineTune: teach a model that exists: all of it, an adapter (LoRA, QLoRA), by a teacher, or by preferences."""

from pydantic import Field

from lmforge_api.common import RunStatus
from lmforge_api.finetune_dataset import Columns, FineTuneDataset, RowSource, Split, Template
from lmforge_api.finetune_parts import (
    Distill,
    Distributed,
    Dpo,
    EarlyStopping,
    FineTuneEvaluation,
    FineTuneOptimizer,
    FineTuneSchedule,
    Lora,
    Method,
    Output,
    Qlora,
    StudentInit,
    StudentShape,
)
from lmforge_api.finetune_results import BeforeAndAfter, Published, Rows, Trainable, TrainedAdapter
from lmforge_api.finetune_rules import RULES
from lmforge_api.run_fields import RunFields
from lmforge_api.sources import ModelReference
from lmforge_api.training import Batch, Checkpoints, Precision

__all__ = [
    "Batch",
    "Checkpoints",
    "Columns",
    "Distill",
    "Distributed",
    "Dpo",
    "EarlyStopping",
    "FineTuneDataset",
    "FineTuneEvaluation",
    "FineTuneOptimizer",
    "FineTuneSchedule",
    "FineTuneSpec",
    "FineTuneStatus",
    "Lora",
    "Method",
    "ModelReference",
    "Output",
    "Qlora",
    "RowSource",
    "Split",
    "StudentInit",
    "StudentShape",
    "Template",
]


class FineTuneSpec(RunFields):
    """Which model to teach, what, how, and with which resources."""

    immutable_fields = (
        "model", "dataset", "method", "lora", "qlora", "distill", "dpo", "steps", "epochs", "batch", "optimizer",
        "schedule", "precision", "sequenceLength", "earlyStopping", "evaluation", "output", "seed",
    )  # fmt: skip
    cel_rules = RULES

    model: ModelReference = Field(description="Which model is taught; with method distill, the student.")
    dataset: FineTuneDataset = Field(description="What it learns from.")
    method: Method = Field(
        "lora",
        description="full: all weights. lora: an adapter of low rank beside frozen weights. qlora: the same on weights quantised to 4 bits, in less memory. distill: from a teacher's logits. dpo: from preferences; with lora an adapter.",
    )
    lora: Lora | None = Field(None, description="The adapter. Default with method lora and qlora: its defaults.")
    qlora: Qlora | None = Field(None, description="How the base is quantised. Default with method qlora: its defaults.")
    distill: Distill | None = Field(None, description="The teacher, and what is learned from it.")
    dpo: Dpo | None = Field(None, description="Settings of method dpo. Default: its defaults.")
    epochs: float | None = Field(
        None, gt=0, le=10_000, description="Times that all rows are seen, rounded up to whole batches. Default: 3."
    )
    steps: int | None = Field(None, ge=1, le=100_000_000, description="Optimizer steps in all, in place of epochs.")
    batch: Batch = Field(
        default_factory=Batch,
        description="Rows a step. Each rank accumulates gradients over global / (micro × ranks) micro batches.",
    )
    optimizer: FineTuneOptimizer = Field(default_factory=FineTuneOptimizer, description="AdamW's settings.")
    schedule: FineTuneSchedule = Field(default_factory=FineTuneSchedule, description="Learning rate over steps.")
    precision: Precision = Field("bf16", description="Arithmetic of the model; fp16 scales its loss dynamically.")
    sequence_length: int = Field(1024, ge=8, le=1_048_576, description="Most tokens of a row.")
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass to save memory."
    )
    distributed: Distributed = Field(default_factory=Distributed, description="Over how many ranks, and how.")
    checkpoint: Checkpoints = Field(default_factory=Checkpoints, description="When the state is saved.")
    early_stopping: EarlyStopping | None = Field(None, description="End when evaluations don't get better.")
    evaluation: FineTuneEvaluation = Field(
        default_factory=FineTuneEvaluation, description="When and on what the model is evaluated."
    )
    output: Output = Field(default_factory=Output, description="What is left.")
    seed: int = Field(
        0, ge=0, le=2**31 - 1, description="Seed of new weights, of dropout, of the split and of the order of rows."
    )

    @property
    def nodes(self) -> int:
        """Pods of an attempt, as the spec says it."""
        return self.distributed.nodes

    @property
    def adapter(self) -> Lora | None:
        """The adapter that is trained; None where the whole model is."""
        if self.method in ("lora", "qlora"):
            return self.lora or Lora()
        return self.lora

    @property
    def quantization(self) -> Qlora | None:
        """How the frozen base is quantised, if it is."""
        return (self.qlora or Qlora()) if self.method == "qlora" else None

    @property
    def merges(self) -> bool:
        """Whether an adapter is merged into its base at the end."""
        return self.adapter is not None and self.output.merge is not False


class FineTuneStatus(RunStatus):
    """What is, and why."""

    evaluation: BeforeAndAfter = Field(default_factory=BeforeAndAfter, description="What the model has learned.")
    trainable: Trainable | None = Field(None, description="How much of the model is trained.")
    epoch: str = Field("", description="Times that all rows have been seen, e.g. 1.25.")
    peak_memory: str = Field(
        "", description="Most that a rank has had at once: of its accelerator's memory, or on CPU resident. 812 MiB."
    )
    rows: Rows | None = Field(None, description="What became of the dataset's rows.")
    adapter: TrainedAdapter | None = Field(
        None, description="The adapter, where one was trained. With output.merge: false it is the artifact too."
    )
    published: Published | None = Field(None, description="The artifact in a registry, where output.publish names one.")
