"""Builders of what tests start from."""

from pathlib import Path
from typing import Any

from lmforge_api.run import Rendezvous, StorePaths, TrainingRun
from lmforge_api.trainingjob import (
    DatasetSource,
    ModelInit,
    ModelSource,
    TokenizerSource,
    TokenizerTraining,
    TrainingJobSpec,
)


def a_spec(**fields: Any) -> TrainingJobSpec:
    """A small Llama on one process; `fields` replace what is here."""
    small = ModelInit(layers=2, hidden_size=32, heads=4)
    defaults: dict[str, Any] = {
        "model": ModelSource(init=small),
        "dataset": DatasetSource(uri="pvc://corpus/text"),
        "sequence_length": 32,
        "precision": "fp32",
    }
    return TrainingJobSpec(**(defaults | fields))


def a_corpus(*, vocabulary: int = 400) -> DatasetSource:
    """Text, and a tokenizer that is trained on it."""
    tokenizer = TokenizerSource(train=TokenizerTraining(vocab_size=vocabulary))
    return DatasetSource(uri="pvc://corpus/text", tokenizer=tokenizer)


def a_run(
    root: Path, *, dataset: Path | str = "/nowhere", spec: TrainingJobSpec | None = None, **fields: Any
) -> TrainingRun:
    """One attempt that writes below `root`."""
    return TrainingRun(
        namespace="default",
        name="tiny",
        rendezvous=Rendezvous(host="localhost"),
        store=StorePaths(root=str(root)),
        dataset_path=str(dataset),
        spec=spec or a_spec(),
        **fields,
    )
