"""One row for each rule of an InferenceService: what is changed in a good one, and the sentence that refuses it.

None as a value removes the field.
"""

from specs import Fields, Refused

GOOD_SERVICE: Fields = {"model": {"uri": "pvc://models/tiny"}}
ON_LLAMACPP: Fields = {"engine": "llamacpp", "model": {"uri": "pvc://models/tiny.gguf"}}
ON_ONNXRUNTIME: Fields = {"engine": "onnxruntime"}
ON_TENSORRT: Fields = {"engine": "tensorrt", "resources": {"accelerator": "nvidia.com/gpu", "count": 1}}
ON_GPUS: Fields = {"resources": {"accelerator": "nvidia.com/gpu", "count": 2}, "parallelism": {"tensor": 2}}
CACHE: Fields = {"cache": {"claim": "models"}}
TEMPLATE: Fields = {"name": "bank", "system": "You serve a bank's customers."}


def _uri(uri: str) -> Fields:
    return {"model": {"uri": uri}}


def _prompts(**fields: object) -> Fields:
    return {"gateway": {"promptTemplates": [{"name": "bank", **fields}]}}


_SCHEMES = (
    "engine vllm loads models from pvc://, hf:// and file:// (inside the image), and with cache.claim, to which they "
    "are copied, from s3://: write one of these"
)
_FILES = (
    "engine llamacpp loads a GGUF file from pvc:// or file:// (inside the image), and with cache.claim from s3:// or "
    "https://: write pvc://<claim>/<path>.gguf (of a model in several files, the first), or engine: vllm for a Hugging "
    "Face directory"
)
_GGUF = "engine %s can't load the GGUF file that model.uri names: write engine: llamacpp"
_RESERVED = (
    "engineArgs.extra can't set what the operator sets itself (model, names, ports, parallelism, draining) or what has "
    "a field of its own: use the field, or leave it out"
)
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
    Refused("a bucket", _uri("s3://bucket/model"), _SCHEMES, "model.uri"),
    Refused(
        "a cache for what is on a claim",
        CACHE,
        "cache is for models of hf://, s3:// and https://, which are copied to it: what is on a claim or in the image "
        "already is read where it is. Leave cache out",
        "cache",
    ),
    Refused(
        "a web page in a cache",
        {**_uri("https://example.org/model"), **CACHE},
        _SCHEMES,
        "model.uri",
    ),
    Refused("a web page", _uri("https://example.org/model"), _SCHEMES, "model.uri"),
    Refused("a data set of the hub", _uri("hf://datasets/org/name"), _HUB, "model.uri"),
    Refused("a file of a model of the hub", _uri("hf://org/name/config.json"), _HUB, "model.uri"),
)


def _on(engine: Fields, name: str, change: Fields, sentence: str, field: str) -> Refused:
    return Refused(f"{name} under {engine['engine']}", {**engine, **change}, sentence, field)


def _lacks(engine: Fields, change: Fields, instead: str, field: str) -> Refused:
    return _on(engine, field, change, f"engine {engine['engine']} has no {field}: {instead}", field)


TWO_NODES = {"nodes": 2, "parallelism": {"tensor": 2}}
_ONE_POD = "each of its replicas is one pod. Leave it out, or write engine: vllm"
_ONE_COPY = "a pod holds one copy of the model. Write data: 1, and more replicas"

_LEGAL = {"name": "legal", "uri": "pvc://models/legal"}
_NO_ADAPTERS = "it can't be given any while it runs. Leave them out, or write engine: vllm"
_NO_LORA = "it can't be given adapters while it runs. Leave it out, or write engine: vllm"

ENGINES = (
    Refused("a GGUF file under vllm", _uri("pvc://models/tiny.GGUF"), _GGUF % "vllm", "model.uri"),
    _on(ON_TENSORRT, "a GGUF file", _uri("pvc://models/tiny.gguf"), _GGUF % "tensorrt", "model.uri"),
    _on(ON_LLAMACPP, "a directory", _uri("pvc://models/tiny"), _FILES, "model.uri"),
    _on(ON_LLAMACPP, "a model of the hub", _uri("hf://org/name"), _FILES, "model.uri"),
    _on(ON_TENSORRT, "a bucket", _uri("s3://bucket/model"), _SCHEMES.replace("vllm", "tensorrt"), "model.uri"),
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
    _lacks(ON_LLAMACPP, {"adapters": [_LEGAL]}, _NO_ADAPTERS, "adapters"),
    _lacks(ON_TENSORRT, {"adapters": [_LEGAL]}, _NO_ADAPTERS, "adapters"),
    _lacks(ON_ONNXRUNTIME, {"adapters": [_LEGAL]}, _NO_ADAPTERS, "adapters"),
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
    _on(ON_LLAMACPP, "the operator's own", {"engineArgs": {"extra": {"alias": "a"}}}, _RESERVED, "engineArgs.extra"),
    _on(ON_TENSORRT, "the operator's own", {"engineArgs": {"extra": {"tp-size": "2"}}}, _RESERVED, "engineArgs.extra"),
    _on(ON_ONNXRUNTIME, "a GGUF file", _uri("pvc://models/tiny.gguf"), _GGUF % "onnxruntime", "model.uri"),
    _on(
        ON_ONNXRUNTIME,
        "a model of the hub",
        _uri("hf://org/name"),
        "engine onnxruntime loads a directory with genai_config.json from pvc:// or file:// (inside the image), and "
        "with cache.claim from hf:// or s3://: copy what onnxruntime-genai's model builder wrote to one of these",
        "model.uri",
    ),
    _on(
        ON_ONNXRUNTIME, "the operator's own", {"engineArgs": {"extra": {"threads": "2"}}}, _RESERVED, "engineArgs.extra"
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

SIZE = (
    Refused(
        "a replica split on CPU",
        {"parallelism": {"tensor": 2}},
        "parallelism.tensor × pipeline × data is 2 × 1 × 1 = 2, but a replica on CPU is split over nodes only: write 1 "
        "for each, or nodes: 2, or name resources.accelerator and count",
        "parallelism",
    ),
    Refused(
        "more parts than accelerators",
        {**ON_GPUS, "parallelism": {"tensor": 2, "pipeline": 2}},
        "parallelism.tensor × pipeline × data is 2 × 2 × 1 = 4, but nodes × resources.count is 1 × 2 accelerators: "
        "make both the same",
        "parallelism",
    ),
    Refused(
        "more nodes than parts on CPU",
        {"nodes": 3, "parallelism": {"tensor": 2}},
        "parallelism.tensor × pipeline × data is 2 × 1 × 1 = 2, but on CPU each of the 3 nodes holds one part: make "
        "both the same",
        "parallelism",
    ),
    Refused(
        "stages on CPU",
        {"nodes": 2, "parallelism": {"pipeline": 2}},
        "parallelism.pipeline is 2, but on CPU vLLM's stages don't work together: write tensor instead, a number that "
        "divides the model's heads",
        "parallelism.pipeline",
    ),
    Refused(
        "fewer parts than the accelerators of all nodes",
        {**ON_GPUS, "nodes": 2, "parallelism": {"tensor": 2}},
        "parallelism.tensor × pipeline × data is 2 × 1 × 1 = 2, but nodes × resources.count is 2 × 2 accelerators: "
        "make both the same",
        "parallelism",
    ),
    Refused(
        "copies of the model over nodes",
        {**ON_GPUS, "nodes": 2, "parallelism": {"tensor": 2, "data": 2}},
        "parallelism.data is 2, but a replica of several nodes holds one copy of the model: write data: 1, and more "
        "replicas",
        "parallelism.data",
    ),
    Refused(
        "a CPU cache with accelerators",
        {**ON_GPUS, "engineArgs": {"kvCache": 2}},
        "engineArgs.kvCache is for replicas on CPU: with an accelerator leave it out, and set gpuMemoryUtilization",
        "engineArgs.kvCache",
    ),
    Refused(
        "a share of no accelerator",
        {"engineArgs": {"gpuMemoryUtilization": 0.9}},
        "engineArgs.gpuMemoryUtilization needs an accelerator: on CPU leave it out, and set kvCache",
        "engineArgs.gpuMemoryUtilization",
    ),
    Refused(
        "a cache as large as all memory",
        {"engineArgs": {"kvCache": 4}},
        "engineArgs.kvCache 4 GiB counts towards resources.memory 4Gi, which has to hold the weights too: "
        "raise memory, or lower kvCache",
        "engineArgs.kvCache",
    ),
    Refused(
        "fp8 on CPU",
        {"engineArgs": {"quantization": "fp8"}},
        "engineArgs.quantization fp8 needs an accelerator: on CPU serve a model that is quantised already "
        "(awq, gptq, compressed-tensors)",
        "engineArgs.quantization",
    ),
    Refused(
        "an argument with dashes",
        {"engineArgs": {"extra": {"--max-num-seqs": "4"}}},
        "engineArgs.extra has a key that is no argument of the engine: write it without dashes in front, "
        "as in max-num-seqs",
        "engineArgs.extra",
    ),
    Refused(
        "an argument of the operator's",
        {"engineArgs": {"extra": {"port": "1"}}},
        _RESERVED,
        "engineArgs.extra",
    ),
)

SCALE = (
    Refused(
        "two deciders",
        {"replicas": 2, "autoscaling": {"maxReplicas": 3}},
        "replicas and autoscaling can't both decide: leave replicas out, or leave autoscaling out, or write "
        "autoscaling.engine: external",
        "replicas",
    ),
    Refused(
        "nothing for an external autoscaler to change",
        {"autoscaling": {"engine": "external", "minReplicas": 2, "maxReplicas": 3}},
        "autoscaling.engine external changes replicas, which has to be there: write replicas: 2",
        "replicas",
    ),
    Refused(
        "bounds the wrong way round",
        {"autoscaling": {"minReplicas": 4, "maxReplicas": 3}},
        "autoscaling.minReplicas 4 is larger than autoscaling.maxReplicas 3: swap them",
        "autoscaling.minReplicas",
    ),
    Refused(
        "an external autoscaler for a service at zero",
        {"replicas": 1, "autoscaling": {"engine": "external", "minReplicas": 0, "maxReplicas": 3}},
        "autoscaling.engine external can't see requests that wait for a service at zero: write minReplicas: 1, or "
        "engine: builtin",
        "autoscaling.minReplicas",
    ),
)

GATEWAY = (
    Refused(
        "a prompt template that does nothing",
        _prompts(),
        "promptTemplates bank changes nothing: give it a system, style, prefix, maxTokens, temperature, topP or stop",
        "gateway.promptTemplates[0]",
    ),
    Refused(
        "a permission without a prohibition",
        _prompts(maxTokens=9, allowSystem=True),
        "promptTemplates bank has no system or style of its own, so callers' system messages are always let through: "
        "leave allowSystem out",
        "gateway.promptTemplates[0].allowSystem",
    ),
    Refused(
        "no Redis",
        {"gateway": {"sessions": {"redis": {}}}},
        "redis needs either url (redis://host:6379/0) or secretName (a Secret whose entry secretKey holds the URL)",
        "gateway.sessions.redis",
    ),
    Refused(
        "a password in the open",
        {"gateway": {"sessions": {"redis": {"url": "redis://:secret@host:6379/0"}}}},
        "redis.url must not hold a password: put the URL into a Secret and name it by secretName",
        "gateway.sessions.redis.url",
    ),
    Refused(
        "every origin with credentials",
        {"gateway": {"cors": {"origins": ["*"], "credentials": True}}},
        "cors.credentials with the origin * would let every web page act for its visitors: name the origins",
        "gateway.cors.credentials",
    ),
    Refused(
        "a template that isn't there",
        {"gateway": {"promptTemplates": [TEMPLATE], "defaultPromptTemplate": "shop"}},
        "gateway.defaultPromptTemplate shop is not among promptTemplates: write the name of one of them",
        "gateway.defaultPromptTemplate",
    ),
    Refused(
        "several memories",
        {"gateway": {"sessions": {}, "replicas": 2}},
        "gateway.replicas is 2, but without sessions.redis each pod would remember other turns: name a Redis, or "
        "write replicas: 1",
        "gateway.replicas",
    ),
)


def _adapter(**fields: object) -> Fields:
    return {"adapters": [{"name": "legal", **fields}]}


ADAPTERS = (
    Refused(
        "an adapter from nowhere",
        _adapter(),
        "adapter legal needs exactly one of from (a FineTune) or uri (a directory with adapter_config.json)",
        "adapters[0]",
    ),
    Refused(
        "an adapter from a kind that makes whole models",
        _adapter(**{"from": {"kind": "TrainingJob", "name": "tiny"}}),
        "adapter legal can't come from a TrainingJob, which makes whole models: name a FineTune, or write a uri",
        "adapters[0].from.kind",
    ),
    Refused(
        "an adapter of the hub",
        _adapter(uri="hf://org/name"),
        "adapter legal is loaded from pvc:// or file:// (inside the image): copy it to a claim, and write "
        "pvc://<claim>/<path>",
        "adapters[0].uri",
    ),
    Refused(
        "an adapter with a bad name", {"adapters": [{**_LEGAL, "name": "a b"}]}, "should match", "adapters[0].name"
    ),
    Refused(
        "two adapters of one name", {"adapters": [_LEGAL, _LEGAL]}, 'Duplicate value: {"name":"legal"}', "adapters[1]"
    ),
    Refused(
        "less room than is used at once",
        {"engineArgs": {"lora": {"maxActive": 8, "maxLoaded": 4}}},
        "engineArgs.lora.maxLoaded 4 is less than maxActive 8: write at least that",
        "engineArgs.lora.maxLoaded",
    ),
    Refused(
        "an odd rank", {"engineArgs": {"lora": {"maxRank": 17}}}, "Unsupported value: 17", "engineArgs.lora.maxRank"
    ),
    Refused(
        "adapters by the engine's own argument",
        {"engineArgs": {"extra": {"lora-modules": "a=b"}}},
        "engineArgs.extra can't set what the operator sets itself",
        "engineArgs.extra",
    ),
    Refused(
        "an adapter with the model's name",
        {"adapters": [{**_LEGAL, "name": "chat"}]},
        "spec.adapters has an adapter chat, which is the name of the service and its model: give it another",
        "adapters",
    ),
)

_RISING = "canary.steps must rise: write each percent larger than the one before, as in 5, 25, 50"


def _canary(*percents: int, **gates: object) -> Fields:
    return {"rollout": {"canary": {"steps": [{"percent": percent} for percent in percents], "gates": gates}}}


CANARY = (
    Refused("shares that fall", _canary(5, 50, 25), _RISING, "rollout.canary.steps"),
    Refused("the same share twice", _canary(5, 25, 25), _RISING, "rollout.canary.steps"),
    Refused("no steps", _canary(), "should have at least 1 items", "rollout.canary.steps"),
    Refused(
        "a share of nothing", _canary(0, 5), "should be greater than or equal to 1", "rollout.canary.steps[0].percent"
    ),
    Refused("all as a share", _canary(100), "should be less than or equal to 99", "rollout.canary.steps[0].percent"),
    Refused(
        "more errors than requests",
        _canary(5, maxErrorPercent=101),
        "should be less than or equal to 100",
        "rollout.canary.gates.maxErrorPercent",
    ),
    Refused(
        "quicker than what serves",
        _canary(5, maxTtftPercent=90),
        "should be greater than or equal to 100",
        "rollout.canary.gates.maxTtftPercent",
    ),
    Refused(
        "no time at all",
        _canary(5, maxTtftMs=0),
        "should be greater than or equal to 1",
        "rollout.canary.gates.maxTtftMs",
    ),
)

BOUNDS = (
    Refused("an unknown engine", {"engine": "triton"}, 'Unsupported value: "triton"', "engine"),
    Refused("no drain", {"drainSeconds": 0}, "should be greater than or equal to 1", "drainSeconds"),
    Refused("no surge", {"rollout": {"surge": 0}}, "should be greater than or equal to 1", "rollout.surge"),
)

REFUSED = (*MODEL, *ENGINES, *SIZE, *SCALE, *GATEWAY, *ADAPTERS, *CANARY, *BOUNDS)

ACCEPTED: dict[str, Fields] = {
    "the smallest": {},
    "from a TrainingJob": {"model": {"uri": None, "from": {"kind": "TrainingJob", "name": "tiny"}}},
    "a model of the hub": _uri("hf://org/name@v1"),
    "a model of the hub in a cache": {**_uri("hf://org/name"), **CACHE},
    "a model of a bucket in a cache": {**_uri("s3://bucket/name"), **CACHE},
    "a GGUF file of the web in a cache": {"engine": "llamacpp", **_uri("https://example.org/tiny.gguf"), **CACHE},
    "a model of the image": _uri("file:///models/tiny"),
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
        "adapters": [_LEGAL, {"name": "Tone_v1.2", "from": {"kind": "FineTune", "name": "tone"}}],
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
    "a canary's steps and gates": _canary(1, 10, 99, minRequests=0, maxErrorPercent=0.5, maxTtftMs=900),
    "how it rolls and stops": {"rollout": {"surge": 2, "readyDeadlineSeconds": 60}, "drainSeconds": 9, "stopped": True},
}
