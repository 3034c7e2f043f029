"""The parts of an InferenceService's spec, each with the rules between its own fields."""

from typing import Annotated, Literal

from pydantic import Field

from lmforge_api.base import ApiModel, Rule
from lmforge_api.common import Name, ObjectRef
from lmforge_api.inferenceservice_adapters import Lora
from lmforge_api.registry import RegistryAccess
from lmforge_api.sources import NO_TEXT
from lmforge_api.uris import Uri

_ARGUMENT = "^[a-z][a-z0-9]*(-[a-z0-9]+)*$"


class ServedModel(ApiModel):
    """Which model is served."""

    cel_rules = (
        Rule(
            cel="has(self.from) != has(self.uri)",
            message="model needs exactly one of from (another object's artifact) or uri (a Hugging Face directory, or a GGUF file)",
        ),
        NO_TEXT,
        Rule(
            cel="!has(self.registry) || has(self.uri) && self.uri.startsWith('oci://')",
            message="model.registry is about models of oci://: leave it out, or write uri: oci://<registry>/<repository>:<tag>",
            path=".registry",
        ),
    )
    from_: ObjectRef | None = Field(
        None,
        alias="from",
        description="Serve the artifact of this object, once it is ready; each new artifact is rolled out.",
    )
    uri: Uri | None = Field(
        None,
        description="Serve this Hugging Face directory (config.json, safetensors, tokenizer): pvc://claim/path, hf://organisation/name@revision, or file:///path inside the image. Engine llamacpp serves a GGUF file: pvc://claim/path.gguf. Engine onnxruntime serves a directory of onnxruntime-genai (genai_config.json). With cache, oci://registry/repository:tag, or @sha256:digest, is an artifact of a registry whose layers are files (CNCF ModelPack). Files under a uri count as unchanging: put another model under another uri, then it is rolled out, and rolled back where it fails.",
    )
    registry: RegistryAccess | None = Field(None, description="How the registry of oci:// is spoken to.")


class Cache(ApiModel):
    """Where a model from elsewhere is kept: on a claim, or on the nodes."""

    cel_rules = (
        Rule(
            cel="has(self.claim) != self.nodeLocal",
            message="cache needs exactly one of claim (one copy, for all nodes) or nodeLocal: true (a copy on each node)",
        ),
    )
    claim: Name | None = Field(
        None,
        description="PersistentVolumeClaim of this namespace. A pod copies the model to it once, with checksums; every replica, of every service that names this claim, reads it from there.",
    )
    node_local: bool = Field(
        False,
        description="Keep the model on the nodes, in the folder that the chart's nodeCache.path names. On each node the first pod copies it there, with checksums; the others wait, and every replica of this namespace reads it from its own node's disk. What came under a uri once stays: name a revision. The namespace has to allow hostPath volumes.",
    )


class Speculative(ApiModel):
    """Speculative decoding: tokens are guessed, and the model checks several at once (arXiv:2211.17192)."""

    method: Literal["ngram"] = Field(
        "ngram", description="Where guesses come from. ngram: from what followed the same words in the prompt."
    )
    tokens: int = Field(4, ge=1, le=32, description="Tokens guessed at a time.")
    lookup: int = Field(3, ge=1, le=32, description="Longest run of words that is looked up in the prompt.")


class EngineArgs(ApiModel):
    """How the engine runs the model. What isn't said is the engine's own default."""

    cel_rules = (
        Rule(
            cel=f"self.extra.all(key, key.matches('{_ARGUMENT}'))",
            message="engineArgs.extra has a key that is no argument of the engine: write it without dashes in front, as in max-num-seqs",
            path=".extra",
        ),
    )
    max_model_len: int | None = Field(
        None,
        ge=16,
        le=10_485_760,
        description="Longest context in tokens, prompt and answer. Default: the model's own.",
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", description="Arithmetic of the model; auto takes what its weights are stored in."
    )
    gpu_memory_utilization: float | None = Field(
        None, gt=0, le=1, description="Share of the accelerator's memory for weights and KV cache."
    )
    kv_cache: int | None = Field(
        None,
        ge=1,
        le=65536,
        description="Memory for the KV cache on CPU, in GiB; counts towards memory. llamacpp: for prompts kept beside those that run. Default: 1.",
    )
    quantization: Literal["awq", "gptq", "compressed-tensors", "fp8", "bitsandbytes"] | None = Field(
        None,
        description="How the weights are quantised. Default: what the model's config.json says. fp8 and bitsandbytes quantise while loading.",
    )
    prefix_caching: bool = Field(True, description="Reuse the KV cache of prompts that begin alike.")
    chunked_prefill: bool | None = Field(None, description="Cut long prompts into pieces that run beside decoding.")
    speculative: Speculative | None = Field(None, description="Guess several tokens and check them at once.")
    lora: Lora | None = Field(
        None,
        description="Take adapters. Turning this on or off makes a new revision, adding and removing adapters then doesn't. Default: on, with its defaults, while there are spec.adapters.",
    )
    extra: dict[str, Annotated[str, Field(max_length=4096)]] = Field(
        {},
        max_length=64,
        description='More arguments of the engine by name, e.g. max-num-seqs: "64". An empty value makes a flag.',
    )


class ServingParallelism(ApiModel):
    """How one replica is split over the accelerators of its pods: tensor × pipeline × data is their number."""

    tensor: int = Field(1, ge=1, le=64, description="Accelerators that share each layer's matrices.")
    pipeline: int = Field(1, ge=1, le=64, description="Stages that the layers are cut into.")
    data: int = Field(1, ge=1, le=64, description="Copies of the model inside a replica.")


class Targets(ApiModel):
    """How much load a replica may have before another one is added. The measure that asks for the most decides."""

    waiting_requests: int = Field(
        2, ge=1, le=100_000, description="Requests in a replica's queue, not yet running, on average."
    )
    running_requests: int = Field(
        16, ge=1, le=100_000, description="Requests that a replica works on at a time, on average."
    )
    kv_cache_use: int = Field(80, ge=1, le=100, description="Percent of a replica's KV cache in use, on average.")
    ttft_ms: int | None = Field(
        None, ge=1, le=3_600_000, description="Mean time to the first token of the last half minute, in milliseconds."
    )


class Autoscaling(ApiModel):
    """As many replicas as the load needs."""

    cel_rules = (
        Rule(
            cel="self.minReplicas <= self.maxReplicas",
            message="autoscaling.minReplicas {self.minReplicas} is larger than autoscaling.maxReplicas {self.maxReplicas}: swap them",
            path=".minReplicas",
        ),
        Rule(
            cel="self.engine == 'builtin' || self.minReplicas > 0",
            message="autoscaling.engine external can't see requests that wait for a service at zero: write minReplicas: 1, or engine: builtin",
            path=".minReplicas",
        ),
    )
    engine: Literal["builtin", "external"] = Field(
        "builtin",
        description="Who decides. builtin: the operator, by targets. external: an HPA or KEDA through the scale subresource, which sets spec.replicas.",
    )
    min_replicas: int = Field(
        1,
        ge=0,
        le=1000,
        description="Fewest replicas. With 0 an idle service goes away, and its gateway holds the next request until it is back.",
    )
    max_replicas: int = Field(ge=1, le=1000, description="Most replicas.")
    targets: Targets = Field(default_factory=Targets, description="Load of a replica that builtin aims at.")
    scale_down_delay_seconds: int = Field(
        300, ge=0, le=86400, description="builtin: a replica goes only when it wasn't needed for so long."
    )


class Router(ApiModel):
    """What spreads requests over the replicas (vllm-router)."""

    policy: Literal["cache_aware", "consistent_hash", "power_of_two", "round_robin", "random"] = Field(
        "cache_aware",
        description="Which replica gets a request: the one that has its prompt's beginning in its cache (engine vllm with several replicas; the less busy of two for other engines), the same one for the same session, the less busy of two, each in turn, any.",
    )
    replicas: int = Field(
        1, ge=1, le=32, description="Router pods. Each keeps its own view of the caches; two outlive the loss of one."
    )


class CanaryStep(ApiModel):
    """One share of the requests."""

    percent: int = Field(ge=1, le=99, description="Percent of the requests that go to the new revision.")
    seconds: int = Field(60, ge=0, le=604_800, description="The share is held for at least so long.")


class CanaryGates(ApiModel):
    """What the new revision has to show at each step. Counted anew from the beginning of each."""

    min_requests: int = Field(
        100,
        ge=0,
        le=1_000_000,
        description="A step is passed only after so many requests to the new revision; with maxTtftMs or maxTtftPercent, after so many streamed answers.",
    )
    max_error_percent: float = Field(
        1, ge=0, le=100, description="Percent of them that may be answered by 5xx, or not to the end."
    )
    max_ttft_ms: int | None = Field(
        None, ge=1, le=3_600_000, description="Mean time to the first token of streamed answers, in milliseconds."
    )
    max_ttft_percent: int | None = Field(
        None,
        ge=100,
        le=10_000,
        description="The same in percent of the current revision's in the same time, e.g. 150. Its caches are empty at first: leave room for that.",
    )


class Canary(ApiModel):
    """A new revision gets a share of the requests first, and all of them only after its gates have held."""

    cel_rules = (
        Rule(
            cel="self.steps.map(step, step.percent).isSorted() && "
            "self.steps.all(one, self.steps.filter(other, other.percent == one.percent).size() == 1)",
            message="canary.steps must rise: write each percent larger than the one before, as in 5, 25, 50",
            path=".steps",
        ),
    )
    steps: list[CanaryStep] = Field(
        [CanaryStep(percent=5), CanaryStep(percent=25), CanaryStep(percent=50)],
        min_length=1,
        max_length=20,
        description="Shares, one after the other; after the last one the new revision takes over.",
    )
    gates: CanaryGates = Field(
        default_factory=CanaryGates, description="What it has to show at each of them; else it is rolled back."
    )


class Rollout(ApiModel):
    """How a new model or template takes over."""

    surge: int = Field(1, ge=1, le=100, description="Replicas of the new revision beyond those that the load needs.")
    ready_deadline_seconds: int = Field(
        900,
        ge=5,
        le=86400,
        description="A replica of the new revision that isn't ready after so long rolls the service back to the revision that worked.",
    )
    canary: Canary | None = Field(
        None,
        description="The new revision gets a share of the requests first, at a gateway, and more only while its gates hold.",
    )
