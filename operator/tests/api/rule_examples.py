"""One row for each rule between the parts of a spec: what is changed in a good one, and the sentence that refuses it.

None as a value removes the field.
"""

from specs import ALONE, GPU, Fields, Refused, init

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

ACROSS = (*WORLD, *LAYOUT, *ZERO, *ENGINE, *ELASTIC)
