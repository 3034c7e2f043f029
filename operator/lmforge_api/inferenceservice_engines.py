"""The engines as a user meets them: which models each loads, and what of the spec it has no word for.

Every rule that depends on the engine comes from this table, so that another engine is an entry in it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from lmforge_api.base import Rule

EngineName = Literal["vllm", "llamacpp", "onnxruntime", "tensorrt"]

GGUF = "(?i)[.]gguf$"
NVIDIA = "^nvidia[.]com/"

_VLLM_ARGUMENTS = (
    "model", "served-model-name", "host", "port", "uds", "api-key", "ssl-keyfile", "ssl-certfile", "root-path",
    "shutdown-timeout", "revision", "max-model-len", "dtype", "gpu-memory-utilization", "quantization",
    "enable-prefix-caching", "no-enable-prefix-caching", "enable-chunked-prefill", "no-enable-chunked-prefill",
    "speculative-config", "enable-lora", "no-enable-lora", "max-lora-rank", "max-loras", "max-cpu-loras", "lora-modules",
    "tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size", "nnodes", "node-rank", "master-addr",
    "master-port", "headless", "distributed-executor-backend", "enable-scale-out",
)  # fmt: skip
_LLAMACPP_ARGUMENTS = (
    "model", "model-url", "hf-repo", "hf-file", "models-dir", "models-preset", "alias", "host", "port", "reuse-port",
    "api-prefix", "api-key", "api-key-file", "ssl-key-file", "ssl-cert-file", "sleep-idle-seconds", "metrics",
    "ctx-size", "kv-unified", "no-kv-unified", "kv-unified-per-slot", "cache-prompt", "no-cache-prompt", "cache-ram",
    "threads", "threads-batch", "spec-type", "spec-ngram-simple-size-n", "spec-ngram-simple-size-m", "split-mode",
)  # fmt: skip
_ONNXRUNTIME_ARGUMENTS = (
    "model", "served-model-name", "host", "port", "max-model-len", "kv-cache-gib", "threads", "shutdown-timeout",
)  # fmt: skip
_TENSORRT_ARGUMENTS = (
    "model", "served-model-name", "host", "port", "grpc", "backend", "config", "extra-llm-api-options", "revision",
    "max-seq-len", "tp-size", "tensor-parallel-size", "pp-size", "pipeline-parallel-size", "free-gpu-memory-fraction",
    "kv-cache-free-gpu-memory-fraction", "enable-chunked-prefill",
)  # fmt: skip

_ONE_POD = {"nodes": "each of its replicas is one pod. Leave it out, or write engine: vllm"}
_NO_ADAPTERS = {
    "adapters": "it can't be given any while it runs. Leave them out, or write engine: vllm",
    "engineArgs.lora": "it can't be given adapters while it runs. Leave it out, or write engine: vllm",
}


@dataclass(frozen=True)
class Abilities:
    """What an engine takes of a spec."""

    uris: str
    """Regular expression of the models that it loads by uri."""
    cached: str
    """The same of those that it loads once they are in a cache."""
    elsewhere: str
    """What is said to other uris."""
    reserved: tuple[str, ...]
    """Arguments that the operator writes, from typed fields or since its probes and routers depend on them."""
    lacks: Mapping[str, str]
    """Field of the spec that it can't do -> what to write instead."""


ABILITIES: Mapping[EngineName, Abilities] = {
    "vllm": Abilities(
        uris="^(pvc|hf|file)://",
        cached="^(hf|s3|oci)://",
        elsewhere="engine vllm loads models from pvc://, hf:// and file:// (inside the image), and with cache, to "
        "which they are copied, from s3:// and oci://: write one of these",
        reserved=_VLLM_ARGUMENTS,
        lacks={},
    ),
    "llamacpp": Abilities(
        uris="^(pvc|file)://.*[.]gguf$",
        cached="^(s3|https)://.*[.]gguf$",
        elsewhere="engine llamacpp loads a GGUF file from pvc:// or file:// (inside the image), and with cache from "
        "s3:// or https://: write pvc://<claim>/<path>.gguf (of a model in several files, the first), or engine: vllm for "
        "a Hugging Face directory",
        reserved=_LLAMACPP_ARGUMENTS,
        lacks={
            "engineArgs.dtype": "the GGUF file says how its weights are stored. Leave it out",
            "engineArgs.quantization": "the GGUF file is quantised already. Leave it out, or serve another file",
            "engineArgs.gpuMemoryUtilization": "leave it out, and write extra.gpu-layers for a model that is larger "
            "than the accelerator's memory",
            "engineArgs.chunkedPrefill": "it always cuts prompts into batches. Leave it out, or write extra.batch-size",
            "parallelism.data": "a pod holds one copy of the model. Write data: 1, and more replicas",
            **_ONE_POD,
            **_NO_ADAPTERS,
            "autoscaling.targets.ttftMs": "it doesn't measure the time to the first token. Leave it out: "
            "waitingRequests and runningRequests decide",
        },
    ),
    "onnxruntime": Abilities(
        uris="^(pvc|file)://",
        cached="^(hf|s3|oci)://",
        elsewhere="engine onnxruntime loads a directory with genai_config.json from pvc:// or file:// (inside the image), "
        "and with cache from hf://, s3:// or oci://: copy what onnxruntime-genai's model builder wrote to one of these",
        reserved=_ONNXRUNTIME_ARGUMENTS,
        lacks={
            **_ONE_POD,
            **_NO_ADAPTERS,
            "resources.accelerator": "its image is built for CPUs. Leave it out, or write engine: vllm",
            "engineArgs.dtype": "the ONNX files say how it calculates. Leave it out",
            "engineArgs.quantization": "the ONNX files are quantised already. Leave it out, or serve others",
            "engineArgs.chunkedPrefill": "it always reads prompts in pieces. Leave it out",
            "engineArgs.speculative": "it makes one token at a time. Leave it out",
        },
    ),
    "tensorrt": Abilities(
        uris="^(pvc|hf|file)://",
        cached="^(hf|s3|oci)://",
        elsewhere="engine tensorrt loads models from pvc://, hf:// and file:// (inside the image), and with cache, to "
        "which they are copied, from s3:// and oci://: write one of these",
        reserved=_TENSORRT_ARGUMENTS,
        lacks={
            "engineArgs.quantization": "it does what the model's own files say. Leave it out, or serve a model that is "
            "quantised already",
            **_ONE_POD,
            **_NO_ADAPTERS,
            "parallelism.data": "a pod holds one copy of the model. Write data: 1, and more replicas",
        },
    ),
}

_SAID = {
    "engineArgs.dtype": "self.engineArgs.dtype != 'auto'",
    "engineArgs.prefixCaching": "!self.engineArgs.prefixCaching",
    "adapters": "self.adapters.size() > 0",
    "parallelism.data": "self.parallelism.data > 1",
    "nodes": "self.nodes > 1",
    "autoscaling.targets.ttftMs": "has(self.autoscaling) && has(self.autoscaling.targets.ttftMs)",
}
"""When a field asks for something. (The others do when they are there.)"""


def _models() -> Iterator[Rule]:
    yield Rule(
        f"self.engine == 'llamacpp' || !has(self.model.uri) || !self.model.uri.matches('{GGUF}')",
        "engine {self.engine} can't load the GGUF file that model.uri names: write engine: llamacpp",
        path=".model.uri",
    )
    for name, engine in ABILITIES.items():
        yield Rule(
            f"self.engine != '{name}' || !has(self.model.uri) || self.model.uri.matches('{engine.uris}')"
            f" || has(self.cache) && self.model.uri.matches('{engine.cached}')",
            engine.elsewhere,
            path=".model.uri",
        )


def _fields() -> Iterator[Rule]:
    for name, engine in ABILITIES.items():
        for field, instead in engine.lacks.items():
            said = _SAID.get(field, f"has(self.{field})")
            yield Rule(
                f"self.engine != '{name}' || !({said})", f"engine {name} has no {field}: {instead}", path=f".{field}"
            )


def _arguments() -> Iterator[Rule]:
    reserved = ", ".join(f"'{name}': {list(engine.reserved)}" for name, engine in ABILITIES.items())
    yield Rule(
        f"!self.engineArgs.extra.exists(key, key in {{{reserved}}}[self.engine])",
        "engineArgs.extra can't set what the operator sets itself (model, names, ports, parallelism, draining) or what "
        "has a field of its own: use the field, or leave it out",
        path=".engineArgs.extra",
    )
    yield Rule(
        "self.engine != 'llamacpp' || !('parallel' in self.engineArgs.extra) || "
        "self.engineArgs.extra['parallel'].matches('^[1-9][0-9]{0,3}$')",
        "engineArgs.extra.parallel is the number of requests that run at a time: write a number from 1 to 9999",
        path=".engineArgs.extra",
    )


def _places() -> Iterator[Rule]:
    yield Rule(
        f"self.engine != 'tensorrt' || has(self.resources.accelerator) && self.resources.accelerator.matches('{NVIDIA}')",
        "engine tensorrt runs on NVIDIA's accelerators only: write resources.accelerator: nvidia.com/gpu, or another "
        "engine",
        path=".resources",
    )
    yield Rule(
        "self.engine != 'llamacpp' || self.parallelism.tensor == 1 || self.parallelism.pipeline == 1",
        "engine llamacpp splits a model by layers (parallelism.pipeline) or by rows (parallelism.tensor), not both: "
        "write 1 for one of them",
        path=".parallelism",
    )


RULES = (*_models(), *_fields(), *_arguments(), *_places())
