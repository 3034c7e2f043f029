"""What a transformer is compared with: how an n-gram model is run, and how the baselines are written out.

Both are measured as a transformer is: the same evaluation samples, each token given what comes before it in its sample,
mean over all tokens, in nats. The LSTM is trained by the same engine and loop (see `lstm`).
"""

import logging
import math
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from lmforge_api import derive
from lmforge_api.common import ArtifactStatus
from lmforge_api.run import EvaluationResult, TrainingRun
from lmforge_workloads.common.exits import UserError
from lmforge_workloads.common.exported import write_json
from lmforge_workloads.common.metrics import MetricsLog
from lmforge_workloads.common.progress import Reporter
from lmforge_workloads.train.data import Data
from lmforge_workloads.train.export import DTYPES, Outcome, export, save_weights
from lmforge_workloads.train.lstm import LstmShape
from lmforge_workloads.train.ngram import NgramModel, fit
from lmforge_workloads.train.order import EvaluationSamples

log = logging.getLogger(__name__)

MOST_TOKENS = 20_000_000
"""Counted at most: sorting takes about 100 bytes of memory a token."""
FORMAT = "LMForge"
_SAMPLES = 64  # evaluated at a time


def train_ngram(run: TrainingRun, *, data: Data, reporter: Reporter) -> ArtifactStatus:
    """Count, evaluate and export; one process does it all in one step."""
    init = run.spec.model.init
    assert init is not None
    if run.nodes * run.processes_per_node > 1:
        raise UserError("an n-gram model is counted by one process: set nodes and every part of parallelism to 1")
    order = derive.ngram_order(init)
    tokens = data.train.tokens[:MOST_TOKENS]
    log.info("counting grams of up to %d tokens in %d of %d tokens", order, len(tokens), len(data.train.tokens))
    reporter.update(stage="Training", start_step=0, steps=run.spec.steps)
    model = fit(tokens, order=order, vocabulary=data.vocabulary)
    derived = {"parameters": str(model.parameters), "vocabularySize": str(data.vocabulary), "order": str(order)}
    reporter.update(derived=derived)
    evaluation = evaluate_ngram(model, data.evaluation_samples(
        sequence_length=run.spec.sequence_length, limit=run.spec.evaluation.samples
    ), step=run.spec.steps)  # fmt: skip
    with MetricsLog(Path(run.store.root), attempt=run.attempt, start_step=0) as metrics:
        metrics.write(evaluation.step, evaluation_loss=evaluation.loss, tokens=len(tokens))
    reporter.update(stage="Exporting", step=run.spec.steps, tokens=len(tokens), evaluation=evaluation)
    outcome = Outcome(
        steps=run.spec.steps, tokens=len(tokens), parameters=model.parameters, loss=None, evaluation=evaluation
    )
    return export(run, architecture=f"{order}-gram", write=model.save, data=data, outcome=outcome, format=FORMAT)


def evaluate_ngram(model: NgramModel, samples: EvaluationSamples, *, step: int) -> EvaluationResult:
    """Mean loss over the tokens of all samples, as `engine.evaluate` has it."""
    total = 0.0
    for first in range(0, len(samples), _SAMPLES):
        batch = samples.batch(range(first, min(first + _SAMPLES, len(samples))))
        total -= float(model.log_probabilities(batch).sum())
    loss = total / (len(samples) * samples.sequence_length)
    return EvaluationResult(step=step, loss=loss, perplexity=math.exp(loss))


def export_lstm(
    run: TrainingRun, *, shape: LstmShape, state: Iterable[tuple[str, Tensor]], data: Data, outcome: Outcome
) -> ArtifactStatus:
    """Write a model that `LstmLanguageModel.from_directory` loads."""
    dtype: torch.dtype = DTYPES[run.spec.precision]

    def write(directory: Path) -> None:
        write_json(directory / "config.json", shape.config())
        save_weights(directory, state, dtype=dtype)

    return export(run, architecture="lstm", write=write, data=data, outcome=outcome, format=FORMAT)
