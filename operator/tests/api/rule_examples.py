"""One row for each rule of a TrainingJob: what is changed in a good spec, and the sentence that refuses it.

None as a value removes the field.
"""

from typing import Any, NamedTuple

from uri_examples import BAD

Fields = dict[str, Any]

GOOD: Fields = {
    "model": {"init": {"architecture": "llama", "layers": 8, "hiddenSize": 256, "heads": 8}},
    "dataset": {"uri": "pvc://corpus/python-docs"},
    "parallelism": {"data": 2, "tensor": 2, "pipeline": 2},
    "nodes": 2,
    "steps": 400,
}
"""Eight ranks in two pods."""

ALONE: Fields = {"parallelism": None, "nodes": None}
GPU: Fields = {"resources": {"accelerator": "nvidia.com/gpu", "count": 4}}


class Refused(NamedTuple):
    """A spec that the API server refuses."""

    name: str
    change: Fields
    sentence: str
    field: str
    """Where the sentence points at, below spec."""


def patched(base: Fields, change: Fields) -> Fields:
    """JSON merge patch (RFC 7396)."""
    result = dict(base)
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            old = result.get(key)
            result[key] = patched(old if isinstance(old, dict) else {}, value)
        else:
            result[key] = value
    return result


def init(**fields: Any) -> Fields:
    return {"model": {"init": fields}}


WORLD = (
    Refused(
        "a world that is not nodes × processes",
        {"processesPerNode": 3},
        "parallelism.data × tensor × pipeline is 2 × 2 × 2 = 8 ranks, but nodes × processesPerNode is 2 × 3 = 6: "
        "make both the same",
        "parallelism",
    ),
    Refused(
        "a world that is not nodes × accelerators",
        {"resources": {"accelerator": "nvidia.com/gpu", "count": 8}},
        "parallelism.data × tensor × pipeline is 2 × 2 × 2 = 8 ranks, but nodes × resources.count is 2 × 8 = 16 "
        "accelerators with a rank each: make both the same",
        "parallelism",
    ),
    Refused(
        "a world that nodes can't share",
        {"nodes": 3},
        "parallelism.data × tensor × pipeline is 2 × 2 × 2 = 8 ranks, which nodes: 3 can't share evenly: "
        "write a number of nodes that divides them",
        "nodes",
    ),
    Refused(
        "more processes than accelerators",
        {"processesPerNode": 4, "resources": {"accelerator": "nvidia.com/gpu", "count": 2}},
        "processesPerNode is 4, but each pod has resources.count: 2 accelerators: "
        "leave processesPerNode out, or raise resources.count",
        "processesPerNode",
    ),
    Refused(
        "a global batch that does not divide",
        {"batch": {"global": 10, "micro": 2}},
        "batch.global 10 is not a multiple of batch.micro × parallelism.data = 2 × 2 = 4: write 12, or change micro",
        "batch.global",
    ),
    Refused(
        "a global batch smaller than one micro batch a rank",
        {"batch": {"global": 1}},
        "batch.global 1 is not a multiple of batch.micro × parallelism.data = 1 × 2 = 2: write 2, or change micro",
        "batch.global",
    ),
    Refused(
        "a warm-up longer than the run",
        {"schedule": {"warmupSteps": 500}},
        "schedule.warmupSteps 500 is more than steps 400: the learning rate would never reach its peak; write fewer",
        "schedule.warmupSteps",
    ),
)

LAYOUT = (
    Refused(
        "heads that tensor ranks can't share",
        {**init(heads=4), "parallelism": {"data": 1, "tensor": 8, "pipeline": 1}},
        "model.init.heads 4 can't be shared evenly by parallelism.tensor 8 ranks: write a tensor that divides heads",
        "parallelism.tensor",
    ),
    Refused(
        "key/value heads that tensor ranks can't share",
        init(kvHeads=1),
        "model.init.kvHeads 1 can't be shared evenly by parallelism.tensor 2 ranks: "
        "write a tensor that divides kvHeads",
        "parallelism.tensor",
    ),
    Refused(
        "a feed-forward width that tensor ranks can't share",
        init(intermediateSize=501),
        "the feed-forward width 501 can't be shared evenly by parallelism.tensor 2 ranks: "
        "write model.init.intermediateSize: 502",
        "parallelism.tensor",
    ),
    Refused(
        "a default feed-forward width that tensor ranks can't share",
        {**init(heads=6, hiddenSize=12), "parallelism": {"data": 1, "tensor": 3, "pipeline": 1}, "nodes": 1},
        "the feed-forward width 32 can't be shared evenly by parallelism.tensor 3 ranks: "
        "write model.init.intermediateSize: 33",
        "parallelism.tensor",
    ),
    Refused(
        "fewer layers than stages",
        init(layers=1),
        "model.init.layers 1 is less than parallelism.pipeline 2: every stage needs a layer; write fewer stages",
        "parallelism.pipeline",
    ),
    Refused(
        "an LSTM over several stages",
        init(architecture="lstm"),
        "architecture lstm can't be split by parallelism.tensor or pipeline: write 1 for both",
        "parallelism",
    ),
    Refused(
        "an n-gram model in several processes",
        {**init(architecture="ngram"), "parallelism": {"data": 2, "tensor": 1, "pipeline": 1}},
        "architecture ngram only counts, in one process: write parallelism.data: 1, not 2",
        "parallelism.data",
    ),
    Refused(
        "an elastic n-gram model",
        {**init(architecture="ngram"), **ALONE, "elastic": {"maxNodes": 1}},
        "architecture ngram only counts, in one process: leave elastic out",
        "elastic",
    ),
)

ZERO = (
    Refused(
        "ZeRO 2 with a pipeline",
        {"zero": {"stage": 2}},
        "zero.stage 2 does not go with parallelism.pipeline 2, since a pipeline needs all gradients of its stage: "
        "write zero.stage: 1, or parallelism.pipeline: 1",
        "zero.stage",
    ),
    Refused(
        "ZeRO 3 with a pipeline",
        {"zero": {"stage": 3}},
        "zero.stage 3 does not go with parallelism.pipeline 2, since a pipeline needs all gradients of its stage: "
        "write zero.stage: 1, or parallelism.pipeline: 1",
        "zero.stage",
    ),
    Refused(
        "offload on CPU",
        {"zero": {"offload": {"optimizer": "cpu"}}},
        "zero.offload moves state from an accelerator to host memory, where a run on CPU has it already: "
        "leave zero.offload out, or name resources.accelerator",
        "zero.offload",
    ),
    Refused(
        "offload of an optimizer that is not partitioned",
        {**GPU, "zero": {"stage": 0, "offload": {"optimizer": "cpu"}}},
        "zero.offload.optimizer needs zero.stage 1 or more, which gives each rank its part: write stage: 1",
        "zero.offload.optimizer",
    ),
    Refused(
        "offload of parameters that are not partitioned",
        {**GPU, "zero": {"offload": {"parameters": "cpu"}}},
        "zero.offload.parameters needs zero.stage 3, which partitions them, not 1: write stage: 3",
        "zero.offload.parameters",
    ),
)

MEGATRON: Fields = {"engine": "megatron", **GPU}

ENGINE = (
    Refused(
        "megatron on CPU",
        {"engine": "megatron"},
        "engine megatron needs CUDA: set resources.accelerator (nvidia.com/gpu) and resources.count, "
        "or write engine: deepspeed",
        "engine",
    ),
    Refused(
        "megatron with ZeRO 2",
        {**MEGATRON, "parallelism": {"data": 8, "tensor": 1, "pipeline": 1}, "zero": {"stage": 2}},
        "engine megatron has a distributed optimizer (zero.stage 1) and no zero.stage 2: "
        "write 0 or 1, or engine: deepspeed",
        "zero.stage",
    ),
    Refused(
        "megatron with offload",
        {**MEGATRON, "zero": {"offload": {"optimizer": "cpu"}}},
        "zero.offload is for engine deepspeed: leave it out with engine megatron",
        "zero.offload",
    ),
    Refused(
        "megatron with a baseline",
        {**MEGATRON, **init(architecture="lstm"), "parallelism": {"data": 8, "tensor": 1, "pipeline": 1}},
        "engine megatron trains llama and gpt2, not lstm: write engine: deepspeed",
        "engine",
    ),
    Refused(
        "megatron with sinusoidal positions",
        {**MEGATRON, **init(architecture="gpt2", positionEncoding="sinusoidal")},
        "engine megatron has no sinusoidal positions: write model.init.positionEncoding: learned, or engine: deepspeed",
        "engine",
    ),
    Refused(
        "megatron with uneven stages",
        {**MEGATRON, **init(layers=7)},
        "engine megatron gives each stage as many layers: write model.init.layers as a multiple of "
        "parallelism.pipeline 2, not 7",
        "parallelism.pipeline",
    ),
    Refused(
        "fp16 on CPU",
        {"precision": "fp16"},
        "precision fp16 needs an accelerator: write bf16 (or fp32) to train on CPU",
        "precision",
    ),
)

ELASTIC = (
    Refused(
        "bounds the wrong way round",
        {"elastic": {"minNodes": 4, "maxNodes": 2}},
        "elastic.minNodes 4 is larger than elastic.maxNodes 2: swap them",
        "elastic.minNodes",
    ),
    Refused(
        "nodes out of bounds",
        {"elastic": {"minNodes": 3, "maxNodes": 4}},
        "nodes 2 is not between elastic.minNodes 3 and elastic.maxNodes 4: nodes is what an elastic run aims for",
        "nodes",
    ),
    Refused(
        "too few nodes for a replica",
        {"parallelism": {"data": 1}, "elastic": {"minNodes": 1, "maxNodes": 2}},
        "elastic.minNodes 1 nodes with 2 ranks each don't make whole replicas of tensor × pipeline = 4 ranks: "
        "write a multiple",
        "elastic.minNodes",
    ),
    Refused(
        "a largest size without whole replicas",
        {"parallelism": {"data": 1}, "elastic": {"minNodes": 2, "maxNodes": 3}},
        "elastic.maxNodes 3 nodes with 2 ranks each don't make whole replicas of tensor × pipeline = 4 ranks: "
        "write a multiple",
        "elastic.maxNodes",
    ),
    Refused(
        "a smallest size that the batch does not divide by",
        {"nodes": 4, "parallelism": {"data": 4}, "batch": {"global": 8}, "elastic": {"minNodes": 3, "maxNodes": 4}},
        "with elastic.minNodes 3 there are 3 replicas, and batch.global 8 is not a multiple of micro × replicas = 3: "
        "change minNodes, batch.global or batch.micro",
        "elastic.minNodes",
    ),
    Refused(
        "a largest size that the batch does not divide by",
        {"elastic": {"minNodes": 2, "maxNodes": 3}},
        "with elastic.maxNodes 3 there are 3 replicas, and batch.global 8 is not a multiple of micro × replicas = 3: "
        "change maxNodes, batch.global or batch.micro",
        "elastic.maxNodes",
    ),
)

MODEL = (
    Refused(
        "no model",
        {"model": {"init": None}},
        "model needs exactly one of init (a new model), from (another object's artifact) or uri "
        "(a Hugging Face directory)",
        "model",
    ),
    Refused(
        "two models",
        {"model": {"uri": "pvc://models/tiny"}},
        "model needs exactly one of init (a new model), from (another object's artifact) or uri "
        "(a Hugging Face directory)",
        "model",
    ),
    Refused(
        "a model from a Dataset",
        {"model": {"init": None, "from": {"kind": "Dataset", "name": "corpus"}}},
        "model.from can't be a Dataset, which holds text: name a TrainingJob, FineTune or QuantizeJob",
        "model.from.kind",
    ),
    Refused(
        "a width that heads can't share",
        init(hiddenSize=100),
        "hiddenSize 100 is not a multiple of heads 8: write 104, or a number of heads that divides it",
        "model.init.hiddenSize",
    ),
    Refused(
        "an odd head size",
        init(hiddenSize=24),
        "hiddenSize / heads is 3, but llama's rotary positions turn pairs: write sizes that make it even",
        "model.init.hiddenSize",
    ),
    Refused(
        "heads that key/value heads can't share",
        init(kvHeads=6),
        "heads 8 is not a multiple of kvHeads 6: each key/value head serves as many query heads; "
        "write a kvHeads that divides heads",
        "model.init.kvHeads",
    ),
    Refused(
        "sinusoids without pairs",
        {**init(architecture="gpt2", positionEncoding="sinusoidal", hiddenSize=25, heads=5, layers=2), **ALONE},
        "sinusoidal positions are pairs of a sine and a cosine: write an even hiddenSize, not 25",
        "model.init.hiddenSize",
    ),
    Refused(
        "positions for llama",
        init(positionEncoding="learned"),
        "positionEncoding is for gpt2: leave it out with architecture llama",
        "model.init.positionEncoding",
    ),
    Refused(
        "an order for llama",
        init(order=3),
        "order is for ngram: leave it out with architecture llama",
        "model.init.order",
    ),
    Refused(
        "dropout for llama",
        init(dropout=0.1),
        "dropout is for gpt2 and lstm: leave it out with architecture llama",
        "model.init.dropout",
    ),
    Refused(
        "key/value heads for gpt2",
        init(architecture="gpt2", kvHeads=4),
        "kvHeads is for llama: leave it out with architecture gpt2",
        "model.init.kvHeads",
    ),
    Refused(
        "a rotary base for gpt2",
        init(architecture="gpt2", ropeTheta=500000),
        "ropeTheta is for llama: leave it out with architecture gpt2",
        "model.init.ropeTheta",
    ),
    Refused(
        "a feed-forward width for an LSTM",
        {**init(architecture="lstm", intermediateSize=64), **ALONE},
        "intermediateSize is for llama and gpt2: leave it out with architecture lstm",
        "model.init.intermediateSize",
    ),
)

DATASET = (
    Refused(
        "no text",
        {"dataset": {"uri": None}},
        "a dataset needs exactly one of uri (files) or from (a Dataset)",
        "dataset",
    ),
    Refused(
        "text from a TrainingJob",
        {"dataset": {"uri": None, "from": {"kind": "TrainingJob", "name": "tiny"}}},
        "text comes from a Dataset, not from a TrainingJob: write kind: Dataset, or a uri",
        "dataset.from.kind",
    ),
    Refused(
        "evaluation text from a FineTune",
        {"evaluation": {"dataset": {"from": {"kind": "FineTune", "name": "chat"}}}},
        "text comes from a Dataset, not from a FineTune: write kind: Dataset, or a uri",
        "evaluation.dataset.from.kind",
    ),
    Refused(
        "a tokenizer trained and taken",
        {"dataset": {"tokenizer": {"train": {}, "uri": "pvc://models/tiny"}}},
        "dataset.tokenizer needs exactly one of train (train one on this text) or uri (an existing one)",
        "dataset.tokenizer",
    ),
    Refused(
        "a new tokenizer for a model that has one",
        {"model": {"init": None, "uri": "pvc://models/tiny"}, "dataset": {"tokenizer": {"train": {}}}},
        "dataset.tokenizer.train makes a vocabulary that the model to go on from does not know: leave tokenizer out, "
        "and the model's own is used",
        "dataset.tokenizer",
    ),
)

PODS = (
    Refused(
        "an accelerator without a count",
        {"resources": {"accelerator": "nvidia.com/gpu"}},
        "resources.accelerator and resources.count go together: name the device (nvidia.com/gpu) and how many "
        "each pod gets, or leave both out to train on CPU",
        "resources",
    ),
    Refused(
        "shared memory larger than memory",
        {"resources": {"memory": "1Gi", "sharedMemory": "2Gi"}},
        "resources.sharedMemory 2Gi counts towards resources.memory 1Gi, which must be larger: raise memory",
        "resources.memory",
    ),
    Refused(
        "a rank of one's own",
        {"template": {"env": [{"name": "RANK", "value": "1"}]}},
        "template.env can't set RANK: ranks and their meeting place come from parallelism and nodes; leave it out",
        "template.env[0].name",
    ),
    Refused(
        "a label key with a blank",
        {"template": {"labels": {"my team": "nlp"}}},
        "template.labels has a key that Kubernetes does not take: write <name> or <domain>/<name>",
        "template.labels",
    ),
    Refused(
        "an annotation key without a name",
        {"template": {"annotations": {"example.org/": "x"}}},
        "template.annotations has a key that Kubernetes does not take: write <name> or <domain>/<name>",
        "template.annotations",
    ),
    Refused(
        "a label of the operator's",
        {"template": {"labels": {"lmforge.dev/attempt": "7"}}},
        "template.labels can't use keys of lmforge.dev or batch.kubernetes.io, by which a run finds its pods: "
        "use your own domain",
        "template.labels",
    ),
    Refused(
        "an annotation of a Job's",
        {"template": {"annotations": {"batch.kubernetes.io/job-completion-index": "7"}}},
        "template.annotations can't use keys of lmforge.dev or batch.kubernetes.io, by which a run finds its pods: "
        "use your own domain",
        "template.annotations",
    ),
    Refused(
        "a failure rule for nothing",
        {"failurePolicy": {"rules": [{"action": "Fail"}]}},
        "a failure rule needs onExitCodes or onReasons: say which ends it is for",
        "failurePolicy.rules[0]",
    ),
)

URIS = tuple(
    Refused(f"uri {uri!r}", {"dataset": {"uri": uri}}, sentence, "dataset.uri")
    for uri, sentence in BAD
)  # fmt: skip

BOUNDS = (
    Refused("no nodes", {"nodes": 0}, "should be greater than or equal to 1", "nodes"),
    Refused("no learning", {"optimizer": {"learningRate": 0}}, "should be greater than 0", "optimizer.learningRate"),
    Refused("an unknown engine", {"engine": "jax"}, 'Unsupported value: "jax"', "engine"),
    Refused("memory in words", {"resources": {"memory": "lots"}}, "should match", "resources.memory"),
    Refused("a number in quotes", {"steps": "400"}, 'must be of type integer: "string"', "steps"),
)  # fmt: skip

ALL = (*WORLD, *LAYOUT, *ZERO, *ENGINE, *ELASTIC, *MODEL, *DATASET, *PODS, *URIS, *BOUNDS)
