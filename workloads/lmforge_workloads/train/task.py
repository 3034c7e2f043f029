"""What a run trains, derived from its spec: the model, its first weights, its place in the world."""

import logging
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lmforge_api import derive
from lmforge_api.common import ArtifactStatus
from lmforge_api.run import TrainingRun
from lmforge_workloads.common import store
from lmforge_workloads.common.exits import UserError
from lmforge_workloads.train import lstm, model, shape
from lmforge_workloads.train.baselines import export_lstm
from lmforge_workloads.train.data import Data
from lmforge_workloads.train.engine import Engine
from lmforge_workloads.train.export import Outcome, export_transformer
from lmforge_workloads.train.layers import Layers
from lmforge_workloads.train.layout import Layout
from lmforge_workloads.train.megatron_names import to_hugging_face
from lmforge_workloads.train.weights import Directory, Drawn, Source, for_export

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """A model that the engine can train."""

    run: TrainingRun
    shape: shape.Shape | lstm.LstmShape
    directory: Path | None = None
    """Where the first weights are, if they aren't drawn."""

    def pieces(self, layers: Layers) -> list[model.Piece]:
        """The model, built from these layers."""
        if isinstance(self.shape, lstm.LstmShape):
            return lstm.pieces(self.shape, layers)
        return model.pieces(self.shape, layers, recompute=self.run.spec.activation_checkpointing)

    @contextmanager
    def first_weights(self) -> Iterator[Source]:
        """Where weights come from when there is no checkpoint."""
        seed = self.run.spec.seed
        if self.directory is not None:
            with Directory(self.directory) as source:
                yield source
        elif isinstance(self.shape, lstm.LstmShape):
            yield lstm.Drawn(seed, hidden=self.shape.hidden)
        else:
            yield Drawn(seed, layers=self.shape.layers)

    def export(self, state: Iterable[tuple[str, Tensor]], *, data: Data, outcome: Outcome) -> ArtifactStatus:
        """Write the artifact."""
        if isinstance(self.shape, lstm.LstmShape):
            return export_lstm(self.run, shape=self.shape, state=state, data=data, outcome=outcome)
        if self.run.spec.engine == "megatron":
            state = to_hugging_face(state, self.shape)
        state = for_export(state, self.shape)
        return export_transformer(self.run, shape=self.shape, state=state, data=data, outcome=outcome)


def task_of(run: TrainingRun, *, vocabulary: int) -> Task:
    """The model that the spec asks for. Raises `UserError` where it can't be trained in this layout."""
    init = run.spec.model.init
    directory = None
    chosen: shape.Shape | lstm.LstmShape
    if init is None:
        if run.model_path is None:
            raise UserError("the run has neither model.init nor the path of a model to go on from")
        directory = store.local_directory(run.model_path, scratch=Path(tempfile.gettempdir()) / f"model-{os.getpid()}")
        chosen = shape.from_directory(directory)
        _check_fit(chosen, vocabulary=vocabulary, length=run.spec.sequence_length)
    elif init.architecture == "lstm":
        chosen = lstm.shape_of(init, vocabulary=vocabulary)
    else:
        tensor = run.spec.parallelism.tensor
        chosen = shape.from_spec(init, vocabulary=vocabulary, length=run.spec.sequence_length, tensor=tensor)
    chosen.check_layout(tensor=run.spec.parallelism.tensor, pipeline=run.spec.parallelism.pipeline)
    return Task(run, chosen, directory)


def layout_of(run: TrainingRun, *, rank: int) -> Layout:
    """The place of a rank."""
    parallelism = run.spec.parallelism
    layout = Layout(data=run.data_parallel, tensor=parallelism.tensor, pipeline=parallelism.pipeline, rank=rank)
    if layout.world != run.nodes * run.processes_per_node:
        raise UserError(
            f"data {layout.data} × tensor {layout.tensor} × pipeline {layout.pipeline} = {layout.world} ranks, but"
            f" {run.nodes} nodes × {run.processes_per_node} processes = {run.nodes * run.processes_per_node}"
        )
    return layout


def engine_of(task: Task, layout: Layout, *, device: torch.device) -> Engine:
    """The engine that the spec names. Imported here: each is the slowest import of the program."""
    spec = task.run.spec
    if spec.engine == "megatron":
        from lmforge_workloads.train.megatron_engine import MegatronEngine

        if isinstance(task.shape, lstm.LstmShape):
            raise UserError("engine megatron trains transformers only: use deepspeed for an lstm")
        return MegatronEngine(task.shape, layout, spec, device=device)
    from lmforge_workloads.train.deepspeed_engine import DeepSpeedEngine, EngineSettings

    settings = EngineSettings(
        optimizer=spec.optimizer,
        zero=spec.zero,
        precision=spec.precision,
        micro_batch=spec.batch.micro,
        accumulation=accumulation_of(task.run),
    )
    return DeepSpeedEngine(task.pieces, layout, settings, device=device)


def accumulation_of(run: TrainingRun) -> int:
    """Micro batches a step."""
    try:
        return derive.accumulation_steps(run.spec, data_parallel=run.data_parallel)
    except ValueError as error:
        raise UserError(str(error)) from error


def _check_fit(chosen: shape.Shape, *, vocabulary: int, length: int) -> None:
    if vocabulary > chosen.vocabulary:
        raise UserError(f"the tokenizer has {vocabulary} tokens, but the model only {chosen.vocabulary}: use its own")
    if length > chosen.positions:
        raise UserError(f"sequenceLength {length} is more than the {chosen.positions} positions of the model")
