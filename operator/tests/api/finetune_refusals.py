"""Changes to a good FineTune that the API server refuses, each with its sentence: methods, lengths, machines."""

from finetune_examples import GPU, TEACHER, init
from specs import Fields, Refused

METHOD = (
    Refused(
        "an adapter with method full",
        {"method": "full", "lora": {"rank": 8}},
        "lora is for method lora, qlora and dpo: leave it out with method full, or write method: lora",
        "lora",
    ),
    Refused(
        "quantisation with method lora",
        {"qlora": {}},
        "qlora is for method qlora: leave it out with method lora, or write method: qlora",
        "qlora",
    ),
    Refused(
        "a teacher with method full",
        {"method": "full", "distill": TEACHER},
        "distill is for method distill: leave it out with method full, or write method: distill",
        "distill",
    ),
    Refused(
        "preferences with method lora",
        {"dpo": {"beta": 0.2}},
        "dpo is for method dpo: leave it out with method lora, or write method: dpo",
        "dpo",
    ),
    Refused(
        "distillation without a teacher",
        {"method": "distill"},
        "method distill needs distill.teacher, the model to learn from: write its from or uri",
        "distill",
    ),
    Refused(
        "a merge with nothing to merge",
        {"method": "full", "output": {"merge": False}},
        "output.merge is about adapters, and method full trains the whole model here: leave it out",
        "output.merge",
    ),
    Refused(
        "preferences over a whole model, merged",
        {"method": "dpo", "output": {"merge": True}},
        "output.merge is about adapters, and method dpo trains the whole model here: leave it out",
        "output.merge",
    ),
    Refused(
        "a quantised model",
        {"model": {"uri": None, "from": {"kind": "QuantizeJob", "name": "small"}}},
        "model.from can't be a QuantizeJob, since its weights are too coarse to be trained: name what it quantised, "
        "and write method: qlora to train on 4 bits",
        "model.from.kind",
    ),
    Refused(
        "three bits",
        {"method": "qlora", "qlora": {"bits": 3}},
        "qlora.bits is 3, and bitsandbytes stores weights in 4 or 8 bits: write one of them",
        "qlora.bits",
    ),
    Refused(
        "a type of 8 bits",
        {"method": "qlora", "qlora": {"bits": 8, "type": "nf4"}},
        "qlora.type is about 4 bits: leave it out with bits: 8",
        "qlora.type",
    ),
    Refused(
        "double quantisation of 8 bits",
        {"method": "qlora", "qlora": {"bits": 8, "doubleQuant": True}},
        "qlora.doubleQuant is about 4 bits: leave it out with bits: 8",
        "qlora.doubleQuant",
    ),
)

MODEL = (
    Refused(
        "no model",
        {"model": {"uri": None}},
        "a model needs exactly one of from (another object's artifact) or uri (a Hugging Face directory)",
        "model",
    ),
    Refused(
        "two teachers",
        {"method": "distill", "distill": {"teacher": {"uri": "hf://a/b", "from": {"kind": "FineTune", "name": "x"}}}},
        "a model needs exactly one of from (another object's artifact) or uri (a Hugging Face directory)",
        "distill.teacher",
    ),
    Refused(
        "a model from a Dataset",
        {"model": {"uri": None, "from": {"kind": "Dataset", "name": "corpus"}}},
        "a model can't come from a Dataset, which holds text: name a TrainingJob, FineTune or QuantizeJob",
        "model.from.kind",
    ),
)

STUDENT = (
    Refused(
        "a student kept and dropped",
        init(keepLayers=[0, 2], dropLayers=[1]),
        "distill.init needs exactly one of keepLayers, dropLayers (of model) or shape (new weights); without init the "
        "student is model as it is",
        "distill.init",
    ),
    Refused(
        "an empty init",
        init(),
        "distill.init needs exactly one of keepLayers, dropLayers (of model) or shape (new weights)",
        "distill.init",
    ),
    Refused("a layer kept twice", init(keepLayers=[1, 1]), "Duplicate value", "distill.init.keepLayers[1]"),
    Refused(
        "a width that heads can't share",
        init(shape={"layers": 4, "hiddenSize": 100, "heads": 8}),
        "hiddenSize 100 is not a multiple of heads 8: write 104, or a number of heads that divides it",
        "distill.init.shape.hiddenSize",
    ),
    Refused(
        "heads that key/value heads can't share",
        init(shape={"layers": 4, "hiddenSize": 128, "heads": 8, "kvHeads": 3}),
        "heads 8 is not a multiple of kvHeads 3: each key/value head serves as many query heads; "
        "write a kvHeads that divides heads",
        "distill.init.shape.kvHeads",
    ),
    Refused(
        "nothing to learn",
        {"method": "distill", "distill": {**TEACHER, "alpha": 0, "beta": 0}},
        "distill.alpha and distill.beta are both 0, so that nothing would be learned: write one above 0",
        "distill.alpha",
    ),
    Refused(
        "a teacher that isn't asked",
        {"method": "distill", "distill": {**TEACHER, "beta": 0, "onPolicy": 0.5}},
        "distill.onPolicy has the teacher judge the student's own text, which beta: 0 leaves out: write beta above 0, "
        "or onPolicy: 0",
        "distill.onPolicy",
    ),
    Refused(
        "nothing that the student could answer",
        {"method": "distill", "distill": {**TEACHER, "onPolicy": 0.5}, "dataset": {"format": "text"}},
        "distill.onPolicy needs prompts that the student can answer, one by one: write dataset.format: "
        "prompt-completion or chat, and packing: false",
        "distill.onPolicy",
    ),
)

LENGTH = (
    Refused(
        "two lengths",
        {"steps": 100, "epochs": 1},
        "steps and epochs both say how long to train: leave one out",
        "steps",
    ),
    Refused(
        "a best evaluation that isn't kept",
        {"earlyStopping": {}, "evaluation": {"everySteps": 30}},
        "with earlyStopping the best weights are those of a checkpoint: write checkpoint.everySteps as a multiple of "
        "evaluation.everySteps 30, not 100",
        "checkpoint.everySteps",
    ),
    Refused(
        "an evaluation after the end",
        {"earlyStopping": {}, "steps": 100},
        "evaluation.everySteps 100 is no less than steps 100, so that earlyStopping could never decide anything: "
        "evaluate more often, or leave it out",
        "evaluation.everySteps",
    ),
)

WORLD = (
    Refused(
        "a batch that does not divide",
        {"batch": {"global": 10, "micro": 2}, "distributed": {"nodes": 2, "processesPerNode": 2}},
        "batch.global 10 is not a multiple of batch.micro × distributed.nodes × ranks a node = 2 × 2 × 2 = 8: "
        "write 16, or change one of them",
        "batch.global",
    ),
    Refused(
        "a batch that does not divide among accelerators",
        {**GPU, "batch": {"global": 6}},
        "batch.global 6 is not a multiple of batch.micro × distributed.nodes × ranks a node = 1 × 1 × 4 = 4: "
        "write 8, or change one of them",
        "batch.global",
    ),
    Refused(
        "more processes than accelerators",
        {**GPU, "distributed": {"processesPerNode": 8}},
        "distributed.processesPerNode is 8, but each pod has resources.count: 4 accelerators: "
        "leave processesPerNode out, or raise resources.count",
        "distributed.processesPerNode",
    ),
    Refused(
        "bounds the wrong way round",
        {"distributed": {"elastic": {"minNodes": 4, "maxNodes": 2}}},
        "elastic.minNodes 4 is larger than elastic.maxNodes 2: swap them",
        "distributed.elastic.minNodes",
    ),
    Refused(
        "nodes out of bounds",
        {"distributed": {"elastic": {"minNodes": 2, "maxNodes": 4}}},
        "nodes 1 is not between elastic.minNodes 2 and elastic.maxNodes 4: nodes is what an elastic run aims for",
        "distributed.nodes",
    ),
    Refused(
        "a smallest size that the batch does not divide by",
        {"distributed": {"nodes": 4, "elastic": {"minNodes": 3, "maxNodes": 4}}},
        "batch.global 8 is not a multiple of batch.micro × elastic.minNodes × ranks a node = 1 × 3 × 1 = 3: "
        "write 9, or change one of them",
        "distributed.elastic.minNodes",
    ),
    Refused(
        "a largest size that the batch does not divide by",
        {"distributed": {"elastic": {"minNodes": 1, "maxNodes": 3}}},
        "batch.global 8 is not a multiple of batch.micro × elastic.maxNodes × ranks a node = 1 × 3 × 1 = 3: "
        "write 9, or change one of them",
        "distributed.elastic.maxNodes",
    ),
    Refused(
        "quantised weights in parts",
        {"method": "qlora", "distributed": {"strategy": "zero3"}},
        "distributed.strategy zero3 can't share out weights that method qlora has quantised: write fsdp2, which can, "
        "or zero2, by which each rank has all of them",
        "distributed.strategy",
    ),
    Refused(
        "fp16 on CPU",
        {"precision": "fp16"},
        "precision fp16 needs an accelerator: write bf16 (or fp32) to train on CPU",
        "precision",
    ),
    Refused(
        "8-bit moments on CPU",
        {"optimizer": {"kind": "paged-adamw-8bit"}},
        "optimizer.kind paged-adamw-8bit needs an accelerator: write adamw to train on CPU",
        "optimizer.kind",
    ),
)

BOUNDS = (
    Refused("an unknown method", {"method": "prefix"}, 'Unsupported value: "prefix"', "method"),
    Refused("a rank of nothing", {"lora": {"rank": 0}}, "should be greater than or equal to 1", "lora.rank"),
    Refused("a module with a blank", {"lora": {"targetModules": ["q proj"]}}, "should match", "lora.targetModules[0]"),
    Refused("no learning", {"optimizer": {"learningRate": 0}}, "should be greater than 0", "optimizer.learningRate"),
    Refused(
        "a student of no size",
        {"method": "distill", "distill": {**TEACHER, "init": {"shape": {"layers": 4}}}},
        "Required value",
        "distill.init.shape.hiddenSize",
    ),
)

_TAG = (
    "output.publish.uri names the tag that the artifact gets: write oci://<registry>/<repository>:<tag>, the "
    "repository in lowercase, without a digest"
)


def _publish(uri: str) -> Fields:
    return {"output": {"publish": {"uri": uri}}}


PUBLISH = (
    Refused(
        "a digest to publish as", _publish("oci://r.example.org/a@sha256:" + "0a" * 32), _TAG, "output.publish.uri"
    ),
    Refused("a tag to publish as is missing", _publish("oci://r.example.org/a"), _TAG, "output.publish.uri"),
    Refused("capitals in a repository", _publish("oci://r.example.org/Team/a:1"), _TAG, "output.publish.uri"),
    Refused("a bucket to publish to", _publish("s3://bucket/a"), _TAG, "output.publish.uri"),
)

REFUSED_FINETUNES = (*METHOD, *PUBLISH, *MODEL, *STUDENT, *LENGTH, *WORLD, *BOUNDS)
