"""Specs of InferenceServices for tests: a good one, what makes others of it, and changes that are taken."""

from specs import Fields

GOOD_SERVICE: Fields = {"model": {"uri": "pvc://models/tiny"}}
ON_LLAMACPP: Fields = {"engine": "llamacpp", "model": {"uri": "pvc://models/tiny.gguf"}}
ON_ONNXRUNTIME: Fields = {"engine": "onnxruntime"}
ON_TENSORRT: Fields = {"engine": "tensorrt", "resources": {"accelerator": "nvidia.com/gpu", "count": 1}}
ON_GPUS: Fields = {"resources": {"accelerator": "nvidia.com/gpu", "count": 2}, "parallelism": {"tensor": 2}}
CLAIM: Fields = {"claim": "models"}
NODES: Fields = {"nodeLocal": True}
CACHE: Fields = {"cache": CLAIM}
TEMPLATE: Fields = {"name": "bank", "system": "You serve a bank's customers."}
LEGAL: Fields = {"name": "legal", "uri": "pvc://models/legal"}


def model_at(uri: str) -> Fields:
    return {"model": {"uri": uri}}


def canary(*percents: int, **gates: object) -> Fields:
    return {"rollout": {"canary": {"steps": [{"percent": percent} for percent in percents], "gates": gates}}}


ACCEPTED: dict[str, Fields] = {
    "the smallest": {},
    "from a TrainingJob": {"model": {"uri": None, "from": {"kind": "TrainingJob", "name": "tiny"}}},
    "a model of the hub": model_at("hf://org/name@v1"),
    "a model of the hub in a cache": {**model_at("hf://org/name"), **CACHE},
    "a model of a bucket in a cache": {**model_at("s3://bucket/name"), **CACHE},
    "a model of the hub on the nodes": {**model_at("hf://org/name@v1"), "cache": NODES},
    "a GGUF file of the web in a cache": {"engine": "llamacpp", **model_at("https://example.org/tiny.gguf"), **CACHE},
    "a model of the image": model_at("file:///models/tiny"),
    "two accelerators": {**ON_GPUS, "engineArgs": {"gpuMemoryUtilization": 0.9, "quantization": "fp8"}},
    "a cache on CPU": {"engineArgs": {"kvCache": 2, "extra": {"max-num-seqs": "64", "disable-log-stats": ""}}},
    "guessed tokens": {"engineArgs": {"speculative": {"tokens": 5}, "chunkedPrefill": False, "maxModelLen": 2048}},
    "a GGUF file": {
        **ON_LLAMACPP,
        "engineArgs": {"maxModelLen": 2048, "kvCache": 1, "extra": {"parallel": "8"}, "speculative": {}},
    },
    "a GGUF model of a QuantizeJob": {
        "engine": "llamacpp",
        "model": {"uri": None, "from": {"kind": "QuantizeJob", "name": "tiny"}},
    },
    "a GGUF file over two accelerators": {
        **ON_LLAMACPP,
        "resources": {"accelerator": "nvidia.com/gpu", "count": 2},
        "parallelism": {"pipeline": 2},
    },
    "ONNX": {
        **ON_ONNXRUNTIME,
        "engineArgs": {"maxModelLen": 2048, "kvCache": 1, "extra": {"max-num-seqs": "8"}},
        "autoscaling": {"maxReplicas": 2, "targets": {"ttftMs": 500}},
    },
    "TensorRT-LLM": {**ON_TENSORRT, "engineArgs": {"dtype": "bfloat16", "extra": {"max-batch-size": "64"}}},
    "adapters": {
        "adapters": [LEGAL, {"name": "Tone_v1.2", "from": {"kind": "FineTune", "name": "tone"}}],
        "engineArgs": {"lora": {"maxRank": 64}},
    },
    "room for adapters": {"engineArgs": {"lora": {}}},
    "fixed replicas": {"replicas": 0},
    "from zero": {"autoscaling": {"minReplicas": 0, "maxReplicas": 4, "targets": {"ttftMs": 500}}},
    "an external autoscaler": {"replicas": 1, "autoscaling": {"engine": "external", "maxReplicas": 4}},
    "a gateway": {
        "gateway": {
            "auth": {"secretName": "keys"},
            "promptTemplates": [TEMPLATE],
            "defaultPromptTemplate": "bank",
            "sessions": {"redis": {"url": "redis://redis:6379/0"}},
            "replicas": 2,
        }
    },
    "a canary": {"rollout": {"canary": {}}},
    "a canary's steps and gates": canary(1, 10, 99, minRequests=0, maxErrorPercent=0.5, maxTtftMs=900),
    "how it rolls and stops": {"rollout": {"surge": 2, "readyDeadlineSeconds": 60}, "drainSeconds": 9, "stopped": True},
}
