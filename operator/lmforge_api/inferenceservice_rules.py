"""What the parts of an InferenceService's spec ask of each other. `self` is the spec, defaults applied.

Rules inside one part stand next to its fields. Each sentence says what is wrong, with the numbers, and what to write.
"""

from lmforge_api.base import Rule
from lmforge_api.inferenceservice_engines import RULES as ENGINE_RULES

_T, _P, _D = "self.parallelism.tensor", "self.parallelism.pipeline", "self.parallelism.data"
_SPLIT = f"{_T} * {_P} * {_D}"
_PARTS = f"parallelism.tensor × pipeline × data is {{{_T}}} × {{{_P}}} × {{{_D}}} = {{{_SPLIT}}}"
_ACCELERATOR = "has(self.resources.accelerator)"
_ARGS = "self.engineArgs"

_MODEL_RULES = (
    Rule(
        "!has(self.model.uri) || !self.model.uri.startsWith('hf://') || "
        "self.model.uri.matches('^hf://[^/@]+/[^/@]+(@[^/@]+)?/?$') && !self.model.uri.startsWith('hf://datasets/')",
        "model.uri names no model of the hub: write hf://<organisation>/<name>, or hf://<organisation>/<name>@<revision>",
        path=".model.uri",
    ),
)

_CACHE_RULES = (
    Rule(
        "!has(self.cache) || has(self.model.uri) && self.model.uri.matches('^(hf|s3|https|oci)://')",
        "cache is for models of hf://, s3://, https:// and oci://, which are copied to it: what is on a claim or in the image "
        "already is read where it is. Leave cache out",
        path=".cache",
    ),
    Rule(
        "!has(self.cache) || !self.cache.nodeLocal || !has(self.model.uri) || !self.model.uri.startsWith('oci://')",
        "models of oci:// are copied to a claim: write cache.claim instead of cache.nodeLocal",
        path=".cache.nodeLocal",
    ),
)

_SIZE_RULES = (
    Rule(
        f"{_ACCELERATOR} || self.nodes > 1 || {_SPLIT} == 1",
        f"{_PARTS}, but a replica on CPU is split over nodes only: write 1 for each, or nodes: {{{_SPLIT}}}, or name "
        "resources.accelerator and count",
        path=".parallelism",
    ),
    Rule(
        f"{_ACCELERATOR} || self.nodes == 1 || {_SPLIT} == self.nodes",
        f"{_PARTS}, but on CPU each of the {{self.nodes}} nodes holds one part: make both the same",
        path=".parallelism",
    ),
    Rule(
        f"{_ACCELERATOR} || {_P} == 1",
        f"parallelism.pipeline is {{{_P}}}, but on CPU vLLM's stages don't work together: write tensor instead, a number "
        "that divides the model's heads",
        path=".parallelism.pipeline",
    ),
    Rule(
        f"!{_ACCELERATOR} || !has(self.resources.count) || {_SPLIT} == self.nodes * self.resources.count",
        f"{_PARTS}, but nodes × resources.count is {{self.nodes}} × {{self.resources.count}} accelerators: make both the "
        "same",
        path=".parallelism",
    ),
    Rule(
        f"self.nodes == 1 || {_D} == 1",
        f"parallelism.data is {{{_D}}}, but a replica of several nodes holds one copy of the model: write data: 1, and "
        "more replicas",
        path=".parallelism.data",
    ),
    Rule(
        f"!{_ACCELERATOR} || !has({_ARGS}.kvCache)",
        "engineArgs.kvCache is for replicas on CPU: with an accelerator leave it out, and set gpuMemoryUtilization",
        path=".engineArgs.kvCache",
    ),
    Rule(
        f"{_ACCELERATOR} || !has({_ARGS}.gpuMemoryUtilization)",
        "engineArgs.gpuMemoryUtilization needs an accelerator: on CPU leave it out, and set kvCache",
        path=".engineArgs.gpuMemoryUtilization",
    ),
    Rule(
        f"{_ACCELERATOR} || !has({_ARGS}.kvCache) || "
        f"quantity(self.resources.memory).asApproximateFloat() > double({_ARGS}.kvCache) * 1073741824.0",
        f"engineArgs.kvCache {{{_ARGS}.kvCache}} GiB counts towards resources.memory {{self.resources.memory}}, which has "
        "to hold the weights too: raise memory, or lower kvCache",
        path=".engineArgs.kvCache",
    ),
    Rule(
        f"{_ACCELERATOR} || !has({_ARGS}.quantization) || !({_ARGS}.quantization in ['fp8', 'bitsandbytes'])",
        f"engineArgs.quantization {{{_ARGS}.quantization}} needs an accelerator: on CPU serve a model that is quantised "
        "already (awq, gptq, compressed-tensors)",
        path=".engineArgs.quantization",
    ),
)

_SCALE_RULES = (
    Rule(
        "!has(self.replicas) || !has(self.autoscaling) || self.autoscaling.engine == 'external'",
        "replicas and autoscaling can't both decide: leave replicas out, or leave autoscaling out, or write "
        "autoscaling.engine: external",
        path=".replicas",
    ),
    Rule(
        "has(self.replicas) || !has(self.autoscaling) || self.autoscaling.engine != 'external'",
        "autoscaling.engine external changes replicas, which has to be there: write replicas: "
        "{self.autoscaling.minReplicas}",
        path=".replicas",
    ),
)

RULES = (*ENGINE_RULES, *_MODEL_RULES, *_CACHE_RULES, *_SIZE_RULES, *_SCALE_RULES)
