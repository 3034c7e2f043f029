"""TrainingJob: pre-train a language model on many pods with data, tensor and pipeline parallelism."""

from typing import Literal

from pydantic import Field

from lmforge_api.base import ApiModel, Rule
from lmforge_api.common import (
    FailurePolicy,
    ObjectRef,
    PodTemplate,
    Resources,
    RunStatus,
    Scheduling,
    Uri,
)


class ModelInit(ApiModel):
    """A new model, its weights drawn from the seed."""

    architecture: Literal["llama", "gpt2", "lstm", "ngram"] = Field(
        "llama",
        description="Family of the model. lstm and ngram are baselines to compare a transformer with.",
    )
    layers: int = Field(4, ge=1, le=512, description="Transformer blocks (or LSTM layers).")
    hidden_size: int = Field(256, ge=8, le=65536, description="Width of the residual stream.")
    intermediate_size: int | None = Field(
        None,
        ge=8,
        le=262144,
        description="Width of the feed-forward block. Default: for llama 8/3 of hiddenSize rounded up to a multiple of 32, for gpt2 4 times hiddenSize.",
    )
    heads: int = Field(4, ge=1, le=1024, description="Attention heads.")
    kv_heads: int | None = Field(
        None, ge=1, le=1024, description="Key/value heads (llama, grouped-query attention). Default: heads."
    )
    position_encoding: Literal["learned", "sinusoidal"] | None = Field(
        None,
        description="gpt2 only: learned (default), or the fixed sinusoids of 'Attention Is All You Need', section 3.5.",
    )
    rope_theta: float = Field(10000.0, gt=0, description="llama: base of the rotary position encoding.")
    tie_embeddings: bool = Field(True, description="Share the input embedding with the output layer.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout rate (lstm and gpt2).")
    order: int | None = Field(None, ge=1, le=8, description="ngram only: length of the n-grams. Default 3.")


class ModelSource(ApiModel):
    """Which model is trained: a new one, or one to go on from."""

    cel_rules = (
        Rule(
            cel="(has(self.init) ? 1 : 0) + (has(self.from) ? 1 : 0) + (has(self.uri) ? 1 : 0) == 1",
            message="model needs exactly one of init (a new model), from (another object's artifact) or uri (a Hugging Face directory)",
        ),
    )
    init: ModelInit | None = Field(None, description="A new model of this shape.")
    from_: ObjectRef | None = Field(None, alias="from", description="Go on from the artifact of this object.")
    uri: Uri | None = Field(None, description="Go on from this Hugging Face directory (config.json and safetensors).")


class TokenizerTraining(ApiModel):
    """A tokenizer trained on the dataset itself."""

    type: Literal["BPE", "WordPiece", "Unigram"] = Field("BPE", description="Kind of tokenizer.")
    vocab_size: int = Field(8192, ge=260, le=1_000_000, description="Size of the vocabulary, special tokens included.")


class TokenizerSource(ApiModel):
    """How text becomes tokens."""

    cel_rules = (
        Rule(
            cel="(has(self.train) ? 1 : 0) + (has(self.uri) ? 1 : 0) == 1",
            message="dataset.tokenizer needs exactly one of train (train one on this text) or uri (an existing one)",
        ),
    )
    train: TokenizerTraining | None = Field(None, description="Train one on this dataset.")
    uri: Uri | None = Field(None, description="Directory with tokenizer.json, e.g. of a model.")


class TextSource(ApiModel):
    """Text to read."""

    cel_rules = (
        Rule(
            cel="(has(self.from) ? 1 : 0) + (has(self.uri) ? 1 : 0) == 1",
            message="a dataset needs exactly one of uri (files) or from (a Dataset)",
        ),
    )
    uri: Uri | None = Field(
        None,
        description="A file, a directory (read recursively) or a glob of text, jsonl, csv or parquet files.",
    )
    from_: ObjectRef | None = Field(None, alias="from", description="A Dataset, used once it is ready.")
    format: Literal["auto", "text", "jsonl", "csv", "parquet"] = Field(
        "auto",
        description="Format of the files; auto goes by their names (.jsonl, .csv, .parquet, anything else is text).",
    )
    column: str = Field(
        "text", max_length=253, description="Column or JSON key that holds the text (jsonl, csv, parquet)."
    )


class DatasetSource(TextSource):
    """Text to train on, and how it becomes tokens."""

    tokenizer: TokenizerSource | None = Field(
        None,
        description="Default: the model's or the Dataset's own tokenizer, or else a BPE of 8192 trained on this text.",
    )


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

    stage: int = Field(1, ge=0, le=3, description="0 nothing, 1 optimizer states, 2 and gradients, 3 and parameters.")
    offload: ZeroOffload = Field(default_factory=ZeroOffload, description="What to offload to host memory.")
    overlap_comm: bool = Field(True, description="Reduce gradients while the backward pass still runs.")
    reduce_bucket_size: int = Field(500_000_000, ge=1000, description="Elements reduced at a time.")
    allgather_partitions: bool = Field(
        True, description="Gather updated parameters by one all-gather, not by broadcasts."
    )
    allgather_bucket_size: int = Field(500_000_000, ge=1000, description="Elements gathered at a time.")
    contiguous_gradients: bool = Field(True, description="Copy gradients into one buffer as they are made.")


class Batch(ApiModel):
    """Samples a step. Accumulation steps are derived: global / (micro × data)."""

    global_: int = Field(
        8, alias="global", ge=1, le=1_000_000, description="Samples in one optimizer step, over all ranks."
    )
    micro: int = Field(1, ge=1, le=65536, description="Samples that one rank takes through the model at once.")


class Optimizer(ApiModel):
    """AdamW (arXiv:1711.05101). Weight decay applies to matrices only."""

    learning_rate: float = Field(3e-4, gt=0, le=10, description="Peak learning rate.")
    beta1: float = Field(0.9, ge=0, lt=1, description="Decay of the first moment.")
    beta2: float = Field(0.95, ge=0, lt=1, description="Decay of the second moment.")
    epsilon: float = Field(1e-8, gt=0, le=1, description="Added to the denominator.")
    weight_decay: float = Field(0.1, ge=0, le=10, description="Decoupled weight decay.")
    gradient_clipping: float = Field(1.0, ge=0, description="Largest global norm of the gradients; 0 turns it off.")


class Schedule(ApiModel):
    """Learning rate over steps: linear warm-up, then decay to a minimum."""

    kind: Literal["cosine", "linear", "constant"] = Field("cosine", description="Shape after the warm-up.")
    warmup_steps: int = Field(0, ge=0, description="Steps from zero to the peak.")
    minimum_ratio: float = Field(0.1, ge=0, le=1, description="Learning rate at the last step, as a share of the peak.")


class Checkpointing(ApiModel):
    """How much work a failure can cost, and how many checkpoints are kept."""

    every_steps: int = Field(100, ge=1, description="Steps between checkpoints: the most that is ever repeated.")
    keep: int = Field(2, ge=1, le=1000, description="Newest checkpoints that stay in the store.")
    async_: bool = Field(True, alias="async", description="Write in the background while training goes on.")


class Evaluation(ApiModel):
    """Loss on text that is not trained on."""

    every_steps: int = Field(
        100, ge=1, description="Steps between evaluations; one is always made after the last step."
    )
    dataset: TextSource | None = Field(
        None, description="Text to evaluate on. Default: a part of the training text is held out."
    )
    holdout: float = Field(
        0.02, gt=0, le=0.5, description="Share of the training documents held out when no dataset is named."
    )
    samples: int = Field(64, ge=1, le=1_000_000, description="Sequences to evaluate on, at most.")


class Elastic(ApiModel):
    """Take the nodes there are: data parallelism shrinks and grows, tensor and pipeline stay."""

    cel_rules = (
        Rule(
            cel="self.minNodes <= self.maxNodes",
            message="elastic.minNodes must not be larger than elastic.maxNodes",
        ),
    )
    min_nodes: int = Field(1, ge=1, description="Fewest pods to go on with.")
    max_nodes: int = Field(ge=1, description="Most pods to use.")


class TrainingJobSpec(ApiModel):
    """What to train, on what, how, and with which resources."""

    immutable_fields = (
        "model", "dataset", "sequenceLength", "engine", "parallelism", "zero", "precision", "batch", "optimizer",
        "schedule", "steps", "seed", "evaluation", "nodes", "processesPerNode",
    )  # fmt: skip
    cel_rules = (
        Rule(
            cel="(self.parallelism.data * self.parallelism.tensor * self.parallelism.pipeline) % self.nodes == 0",
            message="parallelism.data × tensor × pipeline must be a multiple of nodes",
        ),
    )

    model: ModelSource = Field(description="Which model is trained.")
    dataset: DatasetSource = Field(description="Text to train on.")
    sequence_length: int = Field(512, ge=8, le=1_048_576, description="Tokens in one sample.")
    engine: Literal["deepspeed", "megatron"] = Field(
        "deepspeed", description="Training engine; megatron needs an accelerator."
    )
    parallelism: Parallelism = Field(default_factory=Parallelism, description="How the work is split over ranks.")
    zero: Zero = Field(default_factory=Zero, description="DeepSpeed ZeRO.")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "bf16", description="Arithmetic of the model; fp16 scales its loss dynamically."
    )
    batch: Batch = Field(default_factory=Batch, description="Samples a step.")
    optimizer: Optimizer = Field(default_factory=Optimizer, description="AdamW's settings.")
    schedule: Schedule = Field(default_factory=Schedule, description="Learning rate over steps.")
    steps: int = Field(1000, ge=1, le=100_000_000, description="Optimizer steps in all.")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of the weights and of the order of samples.")
    checkpoint: Checkpointing = Field(default_factory=Checkpointing, description="When and how the state is saved.")
    evaluation: Evaluation = Field(default_factory=Evaluation, description="When and on what the model is evaluated.")
    activation_checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass to save memory."
    )
    resources: Resources = Field(default_factory=Resources, description="What each pod asks for.")
    nodes: int = Field(1, ge=1, le=16384, description="Pods, one a node; each runs processesPerNode ranks.")
    processes_per_node: int | None = Field(
        None,
        ge=1,
        le=64,
        description="Ranks in each pod. Default: resources.count, or on CPU the world size / nodes.",
    )
    elastic: Elastic | None = Field(None, description="Shrink and grow with the nodes there are.")
    failure_policy: FailurePolicy = Field(default_factory=FailurePolicy, description="Restarts, hangs and exceptions.")
    suspend: bool = Field(False, description="Save a checkpoint and free the pods; false goes on from there.")
    active_deadline_seconds: int | None = Field(
        None, ge=1, description="Longest time that the run may take in all, while not suspended."
    )
    ttl_seconds_after_finished: int | None = Field(
        None, ge=0, description="Delete the object so long after its end. The artifact stays."
    )
    scheduling: Scheduling = Field(default_factory=Scheduling, description="Queueing and placement.")
    template: PodTemplate = Field(default_factory=PodTemplate, description="Overrides for the pods.")


class TrainingJobStatus(RunStatus):
    """What is, and why."""
