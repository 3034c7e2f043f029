"""What the parts of a FineTune's spec ask of each other. `self` is the spec, defaults applied.

Rules inside one part stand next to its fields. Each sentence says what is wrong, with the numbers, and what to write.
"""

from collections.abc import Iterator

from lmforge_api.base import Rule, listed
from lmforge_api.training import FP16_NEEDS_AN_ACCELERATOR

_NODES = "self.distributed.nodes"
_EACH = (
    "(has(self.distributed.processesPerNode) ? self.distributed.processesPerNode : "
    "has(self.resources.count) ? self.resources.count : 1)"
)
_ELASTIC = "self.distributed.elastic"
_ADAPTER = "(self.method in ['lora', 'qlora'] || (self.method == 'dpo' && has(self.lora)))"


def _only_with(part: str, *methods: str, remedy: str) -> Rule:
    """The part is for these methods alone."""
    return Rule(
        f"!has(self.{part}) || self.method in {list(methods)}",
        f"{part} is for method {listed(methods)}: leave it out with method {{self.method}}, or {remedy}",
        path=f".{part}",
    )


_METHOD_RULES = (
    _only_with("lora", "lora", "qlora", "dpo", remedy="write method: lora"),
    _only_with("qlora", "qlora", remedy="write method: qlora"),
    _only_with("distill", "distill", remedy="write method: distill"),
    _only_with("dpo", "dpo", remedy="write method: dpo"),
    Rule(
        "self.method != 'distill' || has(self.distill)",
        "method distill needs distill.teacher, the model to learn from: write its from or uri",
        path=".distill",
    ),
    Rule(
        f"!has(self.output.merge) || {_ADAPTER}",
        "output.merge is about adapters, and method {self.method} trains the whole model here: leave it out",
        path=".output.merge",
    ),
    Rule(
        "!has(self.model.from) || self.model.from.kind != 'QuantizeJob'",
        "model.from can't be a QuantizeJob, since its weights are too coarse to be trained: name what it quantised, "
        "and write method: qlora to train on 4 bits",
        path=".model.from.kind",
    ),
)

_DATA_RULES = (
    Rule(
        "self.method != 'dpo' || self.dataset.format in ['auto', 'preference']",
        "method dpo learns from chosen and rejected answers, not from dataset.format {self.dataset.format}: "
        "write format: preference",
        path=".dataset.format",
    ),
    Rule(
        "self.method == 'dpo' || self.dataset.format != 'preference'",
        "dataset.format preference is for method dpo: write that, or for method {self.method} another format",
        path=".dataset.format",
    ),
    Rule(
        "!self.dataset.packing || self.method != 'dpo'",
        "dataset.packing would mix the pairs of method dpo: leave it out",
        path=".dataset.packing",
    ),
    Rule(
        "!has(self.distill) || self.distill.onPolicy == 0.0 || "
        "(self.dataset.format != 'text' && !self.dataset.packing)",
        "distill.onPolicy needs prompts that the student can answer, one by one: write dataset.format: "
        "prompt-completion or chat, and packing: false",
        path=".distill.onPolicy",
    ),
    Rule(
        "!has(self.dataset.split) || !has(self.evaluation.dataset)",
        "dataset.split holds rows out for evaluation, and evaluation.dataset names others: leave one out",
        path=".dataset.split",
    ),
)

_LENGTH_RULES = (
    Rule(
        "!has(self.steps) || !has(self.epochs)",
        "steps and epochs both say how long to train: leave one out",
        path=".steps",
    ),
    Rule(
        "!has(self.earlyStopping) || self.checkpoint.everySteps % self.evaluation.everySteps == 0",
        "with earlyStopping the best weights are those of a checkpoint: write checkpoint.everySteps as a multiple of "
        "evaluation.everySteps {self.evaluation.everySteps}, not {self.checkpoint.everySteps}",
        path=".checkpoint.everySteps",
    ),
    Rule(
        "!has(self.earlyStopping) || !has(self.steps) || self.evaluation.everySteps < self.steps",
        "evaluation.everySteps {self.evaluation.everySteps} is no less than steps {self.steps}, so that earlyStopping "
        "could never decide anything: evaluate more often, or leave it out",
        path=".evaluation.everySteps",
    ),
)


def _divides(nodes: str, *, name: str, path: str) -> Rule:
    """The batch divides among the ranks of so many nodes."""
    at_once = f"self.batch.micro * {nodes} * {_EACH}"
    has = f"!has({_ELASTIC}) || " if nodes.startswith(_ELASTIC) else ""
    return Rule(
        f"{has}self.batch.global % ({at_once}) == 0",
        f"batch.global {{self.batch.global}} is not a multiple of batch.micro × {name} × ranks a node = "
        f"{{self.batch.micro}} × {{{nodes}}} × {{{_EACH}}} = {{{at_once}}}: "
        f"write {{(self.batch.global / ({at_once}) + 1) * {at_once}}}, or change one of them",
        path=path,
    )


def _world() -> Iterator[Rule]:
    yield Rule(
        "!has(self.distributed.processesPerNode) || !has(self.resources.count) || "
        "self.distributed.processesPerNode <= self.resources.count",
        "distributed.processesPerNode is {self.distributed.processesPerNode}, but each pod has resources.count: "
        "{self.resources.count} accelerators: leave processesPerNode out, or raise resources.count",
        path=".distributed.processesPerNode",
    )
    yield _divides(_NODES, name="distributed.nodes", path=".batch.global")
    for end in ("minNodes", "maxNodes"):
        yield _divides(f"{_ELASTIC}.{end}", name=f"elastic.{end}", path=f".distributed.elastic.{end}")


_MACHINE_RULES = (
    Rule(
        "self.method != 'qlora' || self.distributed.strategy != 'zero3'",
        "distributed.strategy zero3 can't share out weights that method qlora has quantised: write fsdp2, which can, "
        "or zero2, by which each rank has all of them",
        path=".distributed.strategy",
    ),
    FP16_NEEDS_AN_ACCELERATOR,
    Rule(
        "self.optimizer.kind == 'adamw' || has(self.resources.accelerator)",
        "optimizer.kind {self.optimizer.kind} needs an accelerator: write adamw to train on CPU",
        path=".optimizer.kind",
    ),
)

RULES = (*_METHOD_RULES, *_DATA_RULES, *_LENGTH_RULES, *_world(), *_MACHINE_RULES)
