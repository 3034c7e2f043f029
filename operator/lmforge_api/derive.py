"""What follows from a spec: sizes that operator and trainer must agree on are computed here and nowhere else."""

from lmforge_api.training import Batch
from lmforge_api.trainingjob import ModelInit, TrainingJobSpec

NGRAM_ORDER = 3


def world_size(spec: TrainingJobSpec) -> int:
    """Ranks in all, as the spec says it: data × tensor × pipeline."""
    return spec.parallelism.data * model_parallel_size(spec)


def model_parallel_size(spec: TrainingJobSpec) -> int:
    """Ranks that hold one copy of the model: tensor × pipeline."""
    return spec.parallelism.tensor * spec.parallelism.pipeline


def processes_per_node(spec: TrainingJobSpec) -> int:
    """Ranks in each pod: as said, or one an accelerator, or on CPU an even share of the world.

    Raises ValueError when the world does not divide into `nodes` equal pods (the CRD's rules refuse such a spec).
    """
    if spec.processes_per_node is not None:
        return spec.processes_per_node
    if spec.resources.count is not None:
        return spec.resources.count
    each, rest = divmod(world_size(spec), spec.nodes)
    if rest:
        raise ValueError(f"a world of {world_size(spec)} ranks does not divide into {spec.nodes} nodes")
    return each


def data_parallel_size(spec: TrainingJobSpec, *, nodes: int) -> int:
    """Data-parallel replicas on this many nodes; tensor × pipeline stay as they are.

    Raises ValueError when the ranks of these nodes do not make whole replicas.
    """
    ranks = nodes * processes_per_node(spec)
    replicas, rest = divmod(ranks, model_parallel_size(spec))
    if rest or not replicas:
        raise ValueError(f"{ranks} ranks do not divide into replicas of {model_parallel_size(spec)}")
    return replicas


def accumulation_steps(spec: TrainingJobSpec, *, data_parallel: int | None = None) -> int:
    """Micro batches that each replica takes for one optimizer step: global / (micro × data).

    Raises ValueError when the global batch does not divide.
    """
    return micro_batches(spec.batch, replicas=data_parallel or spec.parallelism.data)


def micro_batches(batch: Batch, *, replicas: int) -> int:
    """Micro batches that each of so many data-parallel replicas takes for one optimizer step.

    Raises ValueError when the global batch does not divide.
    """
    at_once = batch.micro * replicas
    steps, rest = divmod(batch.global_, at_once)
    if rest or not steps:
        raise ValueError(f"batch.global {batch.global_} is not a multiple of micro × data = {at_once}")
    return steps


def is_feasible(spec: TrainingJobSpec, *, nodes: int) -> bool:
    """Whether the run can go on with this many nodes: whole replicas, and a batch that divides among them."""
    try:
        accumulation_steps(spec, data_parallel=data_parallel_size(spec, nodes=nodes))
    except ValueError:
        return False
    return True


def sizes_that_fit(spec: TrainingJobSpec) -> tuple[int, ...]:
    """Numbers of nodes that an elastic run may have, ascending; empty for a run of fixed size."""
    return spec.elastic.sizes(lambda nodes: is_feasible(spec, nodes=nodes)) if spec.elastic else ()


def intermediate_size(init: ModelInit) -> int:
    """Width of the feed-forward block. llama: 8/3 of hiddenSize rounded up to a multiple of 32 (arXiv:2302.13971 §2.2)."""
    if init.intermediate_size is not None:
        return init.intermediate_size
    if init.architecture == "llama":
        return -(-8 * init.hidden_size // 96) * 32
    return 4 * init.hidden_size


def kv_heads(init: ModelInit) -> int:
    """Key/value heads: as said, or as many as there are query heads."""
    return init.kv_heads if init.kv_heads is not None else init.heads


def head_size(init: ModelInit) -> int:
    """Width of one attention head."""
    return init.hidden_size // init.heads


def position_encoding(init: ModelInit) -> str:
    """How positions reach the model: rotary (llama), learned or sinusoidal (gpt2), none (lstm, ngram)."""
    match init.architecture:
        case "llama":
            return "rotary"
        case "gpt2":
            return init.position_encoding or "learned"
        case _:
            return "none"


def ngram_order(init: ModelInit) -> int:
    """Length of the n-grams of the n-gram baseline."""
    return init.order if init.order is not None else NGRAM_ORDER


def tokens_per_step(spec: TrainingJobSpec) -> int:
    """Tokens that one optimizer step trains on, over all ranks."""
    return spec.batch.global_ * spec.sequence_length


def derived(spec: TrainingJobSpec, *, nodes: int | None = None) -> dict[str, str]:
    """What `status.derived` shows of a run on this many nodes (default: the spec's)."""
    nodes = nodes if nodes is not None else spec.nodes
    data_parallel = data_parallel_size(spec, nodes=nodes)
    values: dict[str, int | str] = {
        "worldSize": nodes * processes_per_node(spec),
        "processesPerNode": processes_per_node(spec),
        "dataParallel": data_parallel,
        "accumulationSteps": accumulation_steps(spec, data_parallel=data_parallel),
        "tokensPerStep": tokens_per_step(spec),
        **_derived_shape(spec.model.init),
    }
    return {key: str(value) for key, value in values.items()}


def _derived_shape(init: ModelInit | None) -> dict[str, int | str]:
    match init:
        case None:
            return {}
        case ModelInit(architecture="ngram"):
            return {"order": ngram_order(init)}
        case ModelInit(architecture="lstm"):
            return {}
    return {
        "intermediateSize": intermediate_size(init),
        "kvHeads": kv_heads(init),
        "headSize": head_size(init),
        "positionEncoding": position_encoding(init),
    }
