"""One row for each rule of a service's model, and of what each engine can do with it."""

from service_specs import CACHE, CLAIM, LEGAL, NODES, ON_LLAMACPP, ON_ONNXRUNTIME, ON_TENSORRT, model_at
from specs import Fields, Refused

_SCHEMES = (
    "engine vllm loads models from pvc://, hf:// and file:// (inside the image), and with cache, to which they "
    "are copied, from s3:// and oci://: write one of these"
)
_FILES = (
    "engine llamacpp loads a GGUF file from pvc:// or file:// (inside the image), and with cache from s3:// or "
    "https://: write pvc://<claim>/<path>.gguf (of a model in several files, the first), or engine: vllm for a Hugging "
    "Face directory"
)
_GGUF = "engine %s can't load the GGUF file that model.uri names: write engine: llamacpp"
RESERVED = (
    "engineArgs.extra can't set what the operator sets itself (model, names, ports, parallelism, draining) or what has "
    "a field of its own: use the field, or leave it out"
)
_ONE_CACHE = "cache needs exactly one of claim (one copy, for all nodes) or nodeLocal: true (a copy on each node)"
_HUB = "model.uri names no model of the hub: write hf://<organisation>/<name>, or hf://<organisation>/<name>@<revision>"

MODEL = (
    Refused(
        "no model",
        {"model": {"uri": None}},
        "model needs exactly one of from (another object's artifact) or uri (a Hugging Face directory, or a GGUF file)",
        "model",
    ),
    Refused(
        "two models",
        {"model": {"from": {"kind": "TrainingJob", "name": "tiny"}}},
        "model needs exactly one of from (another object's artifact) or uri (a Hugging Face directory, or a GGUF file)",
        "model",
    ),
    Refused(
        "a Dataset as a model",
        {"model": {"uri": None, "from": {"kind": "Dataset", "name": "corpus"}}},
        "a model can't come from a Dataset, which holds text: name a TrainingJob, FineTune or QuantizeJob",
        "model.from.kind",
    ),
    Refused("a bucket", model_at("s3://bucket/model"), _SCHEMES, "model.uri"),
    Refused(
        "a cache for what is on a claim",
        CACHE,
        "cache is for models of hf://, s3://, https:// and oci://, which are copied to it: what is on a claim or in "
        "the image already is read where it is. Leave cache out",
        "cache",
    ),
    Refused("no place for a cache", {**model_at("hf://org/name"), "cache": {}}, _ONE_CACHE, "cache"),
    Refused("a cache at two places", {**model_at("hf://org/name"), "cache": {**CLAIM, **NODES}}, _ONE_CACHE, "cache"),
    Refused(
        "a web page in a cache",
        {**model_at("https://example.org/model"), **CACHE},
        _SCHEMES,
        "model.uri",
    ),
    Refused("a registry without a cache", model_at("oci://registry.example.org/tiny:1"), _SCHEMES, "model.uri"),
    Refused(
        "a registry's login for a hub",
        {"model": {"uri": "hf://org/name", "registry": {"secret": "login"}}},
        "model.registry is about models of oci://: leave it out, or write uri: oci://<registry>/<repository>:<tag>",
        "model.registry",
    ),
    Refused(
        "a registry's model on the nodes",
        {**model_at("oci://registry.example.org/tiny:1"), "cache": NODES},
        "models of oci:// are copied to a claim: write cache.claim instead of cache.nodeLocal",
        "cache.nodeLocal",
    ),
    Refused("a web page", model_at("https://example.org/model"), _SCHEMES, "model.uri"),
    Refused("a data set of the hub", model_at("hf://datasets/org/name"), _HUB, "model.uri"),
    Refused("a file of a model of the hub", model_at("hf://org/name/config.json"), _HUB, "model.uri"),
)


def _on(engine: Fields, name: str, change: Fields, sentence: str, field: str) -> Refused:
    return Refused(f"{name} under {engine['engine']}", {**engine, **change}, sentence, field)


def _lacks(engine: Fields, change: Fields, instead: str, field: str) -> Refused:
    return _on(engine, field, change, f"engine {engine['engine']} has no {field}: {instead}", field)


TWO_NODES = {"nodes": 2, "parallelism": {"tensor": 2}}
_ONE_POD = "each of its replicas is one pod. Leave it out, or write engine: vllm"
_ONE_COPY = "a pod holds one copy of the model. Write data: 1, and more replicas"
_NO_ADAPTERS = "it can't be given any while it runs. Leave them out, or write engine: vllm"
_NO_LORA = "it can't be given adapters while it runs. Leave it out, or write engine: vllm"

ENGINES = (
    Refused("a GGUF file under vllm", model_at("pvc://models/tiny.GGUF"), _GGUF % "vllm", "model.uri"),
    _on(ON_TENSORRT, "a GGUF file", model_at("pvc://models/tiny.gguf"), _GGUF % "tensorrt", "model.uri"),
    _on(ON_LLAMACPP, "a directory", model_at("pvc://models/tiny"), _FILES, "model.uri"),
    _on(ON_LLAMACPP, "a model of the hub", model_at("hf://org/name"), _FILES, "model.uri"),
    _on(ON_TENSORRT, "a bucket", model_at("s3://bucket/model"), _SCHEMES.replace("vllm", "tensorrt"), "model.uri"),
    _lacks(
        ON_LLAMACPP,
        {"engineArgs": {"dtype": "float32"}},
        "the GGUF file says how its weights are stored. Leave it out",
        "engineArgs.dtype",
    ),
    _lacks(
        ON_LLAMACPP,
        {"engineArgs": {"quantization": "awq"}},
        "the GGUF file is quantised already. Leave it out, or serve another file",
        "engineArgs.quantization",
    ),
    _lacks(
        ON_LLAMACPP,
        {"engineArgs": {"gpuMemoryUtilization": 0.5}, "resources": {"accelerator": "nvidia.com/gpu", "count": 1}},
        "leave it out, and write extra.gpu-layers for a model that is larger than the accelerator's memory",
        "engineArgs.gpuMemoryUtilization",
    ),
    _lacks(
        ON_LLAMACPP,
        {"engineArgs": {"chunkedPrefill": True}},
        "it always cuts prompts into batches. Leave it out, or write extra.batch-size",
        "engineArgs.chunkedPrefill",
    ),
    _lacks(
        ON_LLAMACPP,
        {"parallelism": {"data": 2}, "resources": {"accelerator": "nvidia.com/gpu", "count": 2}},
        _ONE_COPY,
        "parallelism.data",
    ),
    _lacks(
        ON_LLAMACPP,
        {"autoscaling": {"maxReplicas": 2, "targets": {"ttftMs": 500}}},
        "it doesn't measure the time to the first token. Leave it out: waitingRequests and runningRequests decide",
        "autoscaling.targets.ttftMs",
    ),
    _lacks(ON_LLAMACPP, TWO_NODES, _ONE_POD, "nodes"),
    _lacks(ON_ONNXRUNTIME, TWO_NODES, _ONE_POD, "nodes"),
    _lacks(ON_TENSORRT, {"nodes": 2, "parallelism": {"tensor": 2}}, _ONE_POD, "nodes"),
    _lacks(ON_LLAMACPP, {"adapters": [LEGAL]}, _NO_ADAPTERS, "adapters"),
    _lacks(ON_TENSORRT, {"adapters": [LEGAL]}, _NO_ADAPTERS, "adapters"),
    _lacks(ON_ONNXRUNTIME, {"adapters": [LEGAL]}, _NO_ADAPTERS, "adapters"),
    _lacks(ON_LLAMACPP, {"engineArgs": {"lora": {}}}, _NO_LORA, "engineArgs.lora"),
    _lacks(ON_TENSORRT, {"engineArgs": {"lora": {}}}, _NO_LORA, "engineArgs.lora"),
    _lacks(ON_ONNXRUNTIME, {"engineArgs": {"lora": {}}}, _NO_LORA, "engineArgs.lora"),
    _on(
        ON_LLAMACPP,
        "two ways to split",
        {"parallelism": {"tensor": 2, "pipeline": 2}, "resources": {"accelerator": "nvidia.com/gpu", "count": 4}},
        "engine llamacpp splits a model by layers (parallelism.pipeline) or by rows (parallelism.tensor), not both: "
        "write 1 for one of them",
        "parallelism",
    ),
    _on(
        ON_LLAMACPP,
        "no number",
        {"engineArgs": {"extra": {"parallel": "many"}}},
        "engineArgs.extra.parallel is the number of requests that run at a time: write a number from 1 to 9999",
        "engineArgs.extra",
    ),
    _on(ON_LLAMACPP, "the operator's own", {"engineArgs": {"extra": {"alias": "a"}}}, RESERVED, "engineArgs.extra"),
    _on(ON_TENSORRT, "the operator's own", {"engineArgs": {"extra": {"tp-size": "2"}}}, RESERVED, "engineArgs.extra"),
    _on(ON_ONNXRUNTIME, "a GGUF file", model_at("pvc://models/tiny.gguf"), _GGUF % "onnxruntime", "model.uri"),
    _on(
        ON_ONNXRUNTIME,
        "a model of the hub",
        model_at("hf://org/name"),
        "engine onnxruntime loads a directory with genai_config.json from pvc:// or file:// (inside the image), and "
        "with cache from hf://, s3:// or oci://: copy what onnxruntime-genai's model builder wrote to one of these",
        "model.uri",
    ),
    _on(
        ON_ONNXRUNTIME, "the operator's own", {"engineArgs": {"extra": {"threads": "2"}}}, RESERVED, "engineArgs.extra"
    ),
    _lacks(
        ON_ONNXRUNTIME,
        {"resources": {"accelerator": "nvidia.com/gpu", "count": 1}},
        "its image is built for CPUs. Leave it out, or write engine: vllm",
        "resources.accelerator",
    ),
    _lacks(
        ON_ONNXRUNTIME,
        {"engineArgs": {"dtype": "float32"}},
        "the ONNX files say how it calculates. Leave it out",
        "engineArgs.dtype",
    ),
    _lacks(
        ON_ONNXRUNTIME,
        {"engineArgs": {"quantization": "awq"}},
        "the ONNX files are quantised already. Leave it out, or serve others",
        "engineArgs.quantization",
    ),
    _lacks(
        ON_ONNXRUNTIME,
        {"engineArgs": {"chunkedPrefill": True}},
        "it always reads prompts in pieces. Leave it out",
        "engineArgs.chunkedPrefill",
    ),
    _lacks(
        ON_ONNXRUNTIME,
        {"engineArgs": {"speculative": {}}},
        "it makes one token at a time. Leave it out",
        "engineArgs.speculative",
    ),
    _on(
        ON_TENSORRT,
        "no accelerator",
        {"resources": None},
        "engine tensorrt runs on NVIDIA's accelerators only: write resources.accelerator: nvidia.com/gpu, or another "
        "engine",
        "resources",
    ),
    _on(
        ON_TENSORRT,
        "another maker's accelerator",
        {"resources": {"accelerator": "amd.com/gpu", "count": 1}},
        "engine tensorrt runs on NVIDIA's accelerators only: write resources.accelerator: nvidia.com/gpu, or another "
        "engine",
        "resources",
    ),
    _lacks(
        ON_TENSORRT,
        {"engineArgs": {"quantization": "fp8"}},
        "it does what the model's own files say. Leave it out, or serve a model that is quantised already",
        "engineArgs.quantization",
    ),
    _lacks(
        ON_TENSORRT,
        {"parallelism": {"data": 2}, "resources": {"accelerator": "nvidia.com/gpu", "count": 2}},
        _ONE_COPY,
        "parallelism.data",
    ),
)
