"""What the parts of a TrainingJob's spec ask of each other. `self` is the spec, defaults applied.

Rules inside one part stand next to its fields. Each sentence says what is wrong, with the numbers, and what to write.
What settles the most cases stands first: the API server checks all rules at every write, of status too.
"""

from lmforge_api.base import Rule
from lmforge_api.training import FP16_NEEDS_AN_ACCELERATOR, NODES_WITHIN_ELASTIC

_D, _T, _P = "self.parallelism.data", "self.parallelism.tensor", "self.parallelism.pipeline"
_WORLD = f"{_D} * {_T} * {_P}"
_RANKS = f"parallelism.data × tensor × pipeline is {{{_D}}} × {{{_T}}} × {{{_P}}} = {{{_WORLD}}} ranks"
_INIT = "self.model.init"
_ARCHITECTURE = f"{_INIT}.architecture"
_TRANSFORMER = f"has({_INIT}) && {_ARCHITECTURE} in ['llama', 'gpt2']"
_BASELINE = f"has({_INIT}) && {_ARCHITECTURE} in ['lstm', 'ngram']"
_NGRAM = f"has({_INIT}) && {_ARCHITECTURE} == 'ngram'"
_INTERMEDIATE = (
    f"(has({_INIT}.intermediateSize) ? {_INIT}.intermediateSize : {_ARCHITECTURE} == 'llama' ? "
    f"({_INIT}.hiddenSize * 8 + 95) / 96 * 32 : {_INIT}.hiddenSize * 4)"
)
_AT_ONCE = f"self.batch.micro * {_D}"
_ACCELERATOR = "has(self.resources.accelerator)"

_WORLD_RULES = (
    Rule(
        f"!has(self.processesPerNode) || {_WORLD} == self.nodes * self.processesPerNode",
        f"{_RANKS}, but nodes × processesPerNode is {{self.nodes}} × {{self.processesPerNode}} = "
        "{self.nodes * self.processesPerNode}: make both the same",
        path=".parallelism",
    ),
    Rule(
        f"has(self.processesPerNode) || !has(self.resources.count) || {_WORLD} == self.nodes * self.resources.count",
        f"{_RANKS}, but nodes × resources.count is {{self.nodes}} × {{self.resources.count}} = "
        "{self.nodes * self.resources.count} accelerators with a rank each: make both the same",
        path=".parallelism",
    ),
    Rule(
        f"has(self.processesPerNode) || has(self.resources.count) || {_WORLD} % self.nodes == 0",
        f"{_RANKS}, which nodes: {{self.nodes}} can't share evenly: write a number of nodes that divides them",
        path=".nodes",
    ),
    Rule(
        "!has(self.processesPerNode) || !has(self.resources.count) || self.processesPerNode <= self.resources.count",
        "processesPerNode is {self.processesPerNode}, but each pod has resources.count: {self.resources.count} "
        "accelerators: leave processesPerNode out, or raise resources.count",
        path=".processesPerNode",
    ),
)

_BATCH_RULES = (
    Rule(
        f"self.batch.global % ({_AT_ONCE}) == 0",
        f"batch.global {{self.batch.global}} is not a multiple of batch.micro × parallelism.data = {{self.batch.micro}}"
        f" × {{{_D}}} = {{{_AT_ONCE}}}: write {{(self.batch.global / ({_AT_ONCE}) + 1) * {_AT_ONCE}}}, or change micro",
        path=".batch.global",
    ),
    Rule(
        "self.schedule.warmupSteps <= self.steps",
        "schedule.warmupSteps {self.schedule.warmupSteps} is more than steps {self.steps}: "
        "the learning rate would never reach its peak; write fewer",
        path=".schedule.warmupSteps",
    ),
)

_LAYOUT_RULES = (
    Rule(
        f"{_T} == 1 || !({_TRANSFORMER}) || {_INIT}.heads % {_T} == 0",
        f"model.init.heads {{{_INIT}.heads}} can't be shared evenly by parallelism.tensor {{{_T}}} ranks: "
        "write a tensor that divides heads",
        path=".parallelism.tensor",
    ),
    Rule(
        f"{_T} == 1 || !({_TRANSFORMER}) || !has({_INIT}.kvHeads) || {_INIT}.kvHeads % {_T} == 0",
        f"model.init.kvHeads {{{_INIT}.kvHeads}} can't be shared evenly by parallelism.tensor {{{_T}}} ranks: "
        "write a tensor that divides kvHeads",
        path=".parallelism.tensor",
    ),
    Rule(
        f"{_T} == 1 || !({_TRANSFORMER}) || {_INTERMEDIATE} % {_T} == 0",
        f"the feed-forward width {{{_INTERMEDIATE}}} can't be shared evenly by parallelism.tensor {{{_T}}} ranks: "
        f"write model.init.intermediateSize: {{({_INTERMEDIATE} / {_T} + 1) * {_T}}}",
        path=".parallelism.tensor",
    ),
    Rule(
        f"{_P} == 1 || !({_TRANSFORMER}) || {_INIT}.layers >= {_P}",
        f"model.init.layers {{{_INIT}.layers}} is less than parallelism.pipeline {{{_P}}}: "
        "every stage needs a layer; write fewer stages",
        path=".parallelism.pipeline",
    ),
    Rule(
        f"({_T} == 1 && {_P} == 1) || !({_BASELINE})",
        f"architecture {{{_ARCHITECTURE}}} can't be split by parallelism.tensor or pipeline: write 1 for both",
        path=".parallelism",
    ),
    Rule(
        f"{_D} == 1 || !({_NGRAM})",
        f"architecture ngram only counts, in one process: write parallelism.data: 1, not {{{_D}}}",
        path=".parallelism.data",
    ),
    Rule(
        f"!has(self.elastic) || !({_NGRAM})",
        "architecture ngram only counts, in one process: leave elastic out",
        path=".elastic",
    ),
)

_ZERO_RULES = (
    Rule(
        f"self.zero.stage < 2 || {_P} == 1",
        f"zero.stage {{self.zero.stage}} does not go with parallelism.pipeline {{{_P}}}, since a pipeline needs all "
        "gradients of its stage: write zero.stage: 1, or parallelism.pipeline: 1",
        path=".zero.stage",
    ),
    Rule(
        f"{_ACCELERATOR} || (self.zero.offload.optimizer == 'none' && self.zero.offload.parameters == 'none')",
        "zero.offload moves state from an accelerator to host memory, where a run on CPU has it already: "
        "leave zero.offload out, or name resources.accelerator",
        path=".zero.offload",
    ),
)

_ENGINE_RULES = (
    Rule(
        f"self.engine != 'megatron' || {_ACCELERATOR}",
        "engine megatron needs CUDA: set resources.accelerator (nvidia.com/gpu) and resources.count, "
        "or write engine: deepspeed",
        path=".engine",
    ),
    Rule(
        "self.engine != 'megatron' || self.zero.stage < 2",
        "engine megatron has a distributed optimizer (zero.stage 1) and no zero.stage {self.zero.stage}: "
        "write 0 or 1, or engine: deepspeed",
        path=".zero.stage",
    ),
    Rule(
        "self.engine != 'megatron' || "
        "(self.zero.offload.optimizer == 'none' && self.zero.offload.parameters == 'none')",
        "zero.offload is for engine deepspeed: leave it out with engine megatron",
        path=".zero.offload",
    ),
    Rule(
        f"self.engine != 'megatron' || !({_BASELINE})",
        f"engine megatron trains llama and gpt2, not {{{_ARCHITECTURE}}}: write engine: deepspeed",
        path=".engine",
    ),
    Rule(
        f"self.engine != 'megatron' || !has({_INIT}) || !has({_INIT}.positionEncoding) || "
        f"{_INIT}.positionEncoding == 'learned'",
        "engine megatron has no sinusoidal positions: write model.init.positionEncoding: learned, or engine: deepspeed",
        path=".engine",
    ),
    Rule(
        f"self.engine != 'megatron' || !has({_INIT}) || {_INIT}.layers % {_P} == 0",
        f"engine megatron gives each stage as many layers: write model.init.layers as a multiple of "
        f"parallelism.pipeline {{{_P}}}, not {{{_INIT}.layers}}",
        path=".parallelism.pipeline",
    ),
    FP16_NEEDS_AN_ACCELERATOR,
)


def _replicas(nodes: str) -> str:
    """Data-parallel size on this many nodes, when tensor × pipeline and the processes of a node stay the same."""
    return f"{nodes} * {_D} / self.nodes"


def _elastic_end(field: str) -> tuple[Rule, ...]:
    nodes = f"self.elastic.{field}"
    return (
        Rule(
            f"!has(self.elastic) || {nodes} * {_D} % self.nodes == 0",
            f"elastic.{field} {{{nodes}}} nodes with {{{_WORLD} / self.nodes}} ranks each don't make whole replicas of "
            f"tensor × pipeline = {{{_T} * {_P}}} ranks: write a multiple",
            path=f".elastic.{field}",
        ),
        Rule(
            f"!has(self.elastic) || {nodes} * {_D} % self.nodes != 0 || "
            f"self.batch.global % (self.batch.micro * ({_replicas(nodes)})) == 0",
            f"with elastic.{field} {{{nodes}}} there are {{{_replicas(nodes)}}} replicas, and batch.global "
            f"{{self.batch.global}} is not a multiple of micro × replicas = "
            f"{{self.batch.micro * ({_replicas(nodes)})}}: change {field}, batch.global or batch.micro",
            path=f".elastic.{field}",
        ),
    )


_ELASTIC_RULES = (
    NODES_WITHIN_ELASTIC,
    *_elastic_end("minNodes"),
    *_elastic_end("maxNodes"),
)

_SOURCE_RULES = (
    Rule(
        "has(self.model.init) || !has(self.dataset.tokenizer) || !has(self.dataset.tokenizer.train)",
        "dataset.tokenizer.train makes a vocabulary that the model to go on from does not know: leave tokenizer out, "
        "and the model's own is used",
        path=".dataset.tokenizer",
    ),
)

RULES = (
    *_WORLD_RULES,
    *_BATCH_RULES,
    *_LAYOUT_RULES,
    *_ZERO_RULES,
    *_ENGINE_RULES,
    *_ELASTIC_RULES,
    *_SOURCE_RULES,
)
