"""A small run that pods train in seconds, and what is compared of its results."""

from pathlib import Path
from typing import Any

import torch
from pods import losses
from safetensors.torch import load_file
from workload_builders import a_corpus, a_run, a_spec

from lmforge_api.run import TrainingRun
from lmforge_api.trainingjob import Batch, Checkpointing, Evaluation, ModelSource, Optimizer, Parallelism

STEPS = 24


def a_job(root: Path, text: Path, *, nodes: int = 1, attempt: int = 1, **fields: Any) -> TrainingRun:
    """A Llama on two data-parallel ranks, with a checkpoint every four steps."""
    parallelism = fields.pop("parallelism", Parallelism(data=2))
    world = parallelism.data * parallelism.tensor * parallelism.pipeline
    spec = a_spec(**{
        "dataset": a_corpus(vocabulary=300),
        "sequence_length": 32,
        "steps": STEPS,
        "parallelism": parallelism,
        "batch": Batch(global_=8),
        "optimizer": Optimizer(learning_rate=1e-2),
        "checkpoint": Checkpointing(every_steps=4),
        "evaluation": Evaluation(every_steps=12, samples=8, holdout=0.2),
    } | fields)  # fmt: skip
    return a_run(
        root, dataset=text, spec=spec, nodes=nodes, processes_per_node=world // nodes,
        data_parallel=parallelism.data, attempt=attempt,
    )  # fmt: skip


def next_attempt(run: TrainingRun) -> TrainingRun:
    return run.model_copy(update={"attempt": run.attempt + 1})


def weights(run: TrainingRun) -> dict[str, torch.Tensor]:
    return load_file(Path(run.store.root) / "artifact" / "model.safetensors")


def assert_same_result(run: TrainingRun, other: TrainingRun) -> None:
    """Bit for bit."""
    assert losses(run) == losses(other)
    ours, theirs = weights(run), weights(other)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours.keys() | theirs.keys())


def going_on_from(job: TrainingRun, model: Path) -> TrainingRun:
    """The same text by the model's own tokenizer."""
    spec = job.spec.model_copy(update={"model": ModelSource(uri="pvc://models/one")})
    return job.model_copy(update={"spec": spec, "model_path": str(model)})
