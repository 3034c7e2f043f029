"""What follows from a FineTune's spec: sizes that operator and workload must agree on are computed here and nowhere else."""

import math

from lmforge_api.derive import micro_batches
from lmforge_api.finetune import FineTuneSpec

EPOCHS = 3.0
EVALUATION_SHARE = 0.05


def processes_per_node(spec: FineTuneSpec) -> int:
    """Ranks in each pod: as said, or one an accelerator, or on CPU one."""
    return spec.distributed.processes_per_node or spec.resources.count or 1


def world_size(spec: FineTuneSpec, *, nodes: int | None = None) -> int:
    """Ranks on this many nodes (default: the spec's). All of them are data-parallel."""
    return (nodes or spec.nodes) * processes_per_node(spec)


def accumulation_steps(spec: FineTuneSpec, *, nodes: int | None = None) -> int:
    """Micro batches that each rank takes for one optimizer step: global / (micro × ranks).

    Raises ValueError when the global batch does not divide.
    """
    return micro_batches(spec.batch, replicas=world_size(spec, nodes=nodes))


def sizes_that_fit(spec: FineTuneSpec) -> tuple[int, ...]:
    """Numbers of nodes that an elastic run may have, ascending; empty for a run of fixed size."""
    elastic = spec.distributed.elastic
    each = spec.batch.micro * processes_per_node(spec)
    return elastic.sizes(lambda nodes: spec.batch.global_ % (each * nodes) == 0) if elastic else ()


def epochs(spec: FineTuneSpec) -> float | None:
    """Times that all rows are seen; None where steps decide."""
    return None if spec.steps is not None else spec.epochs or EPOCHS


def steps(spec: FineTuneSpec, *, rows: int) -> int:
    """Optimizer steps in all, each on a whole batch: as said, or enough for all epochs of so many rows."""
    times = epochs(spec)
    if times is None:
        assert spec.steps is not None
        return spec.steps
    return math.ceil(times * rows / spec.batch.global_)


def evaluation_share(spec: FineTuneSpec) -> float:
    """Share of the rows held out for evaluation; 0 where evaluation.dataset names others."""
    if spec.evaluation.dataset is not None:
        return 0.0
    return spec.dataset.split.evaluation if spec.dataset.split else EVALUATION_SHARE


def learning_rate(spec: FineTuneSpec) -> float:
    """Peak learning rate: as said, or one that suits the method."""
    if spec.optimizer.learning_rate is not None:
        return spec.optimizer.learning_rate
    match spec.method:
        case "lora" | "qlora":
            return 2e-4
        case "full":
            return 2e-5
        case "distill":
            return 5e-5
        case "dpo":
            return 5e-6 if spec.lora else 1e-6


def derived(spec: FineTuneSpec, *, nodes: int | None = None) -> dict[str, str]:
    """What `status.derived` shows of a run on this many nodes (default: the spec's)."""
    values: dict[str, int | float | str] = {
        "worldSize": world_size(spec, nodes=nodes),
        "processesPerNode": processes_per_node(spec),
        "accumulationSteps": accumulation_steps(spec, nodes=nodes),
        "learningRate": f"{learning_rate(spec):g}",
    }
    if (times := epochs(spec)) is not None:
        values["epochs"] = f"{times:g}"
    if adapter := spec.adapter:
        values |= {"loraRank": adapter.rank, "loraAlpha": f"{adapter.alpha:g}"}
    if quantization := spec.quantization:
        values["baseBits"] = quantization.bits
    return {key: str(value) for key, value in values.items()}
