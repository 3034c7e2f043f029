"""One row for each rule of a service's size: how a replica is split, what its engine may take, how many there are."""

from service_engine_examples import RESERVED
from service_specs import ON_GPUS
from specs import Refused

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
        RESERVED,
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
