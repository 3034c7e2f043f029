"""The training loop: step, look, evaluate, save, until the last step or until someone asks to stop."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lmforge_api import derive
from lmforge_api.run import EvaluationResult, TrainingRun
from lmforge_workloads.common.exits import Suspended
from lmforge_workloads.common.guards import Agreement, Watchdog, check_finite
from lmforge_workloads.common.metrics import MetricsLog, Throughput
from lmforge_workloads.common.progress import Reporter
from lmforge_workloads.common.schedule import learning_rate
from lmforge_workloads.train.engine import Engine, StepResult
from lmforge_workloads.train.layout import Layout
from lmforge_workloads.train.saver import Saver
from lmforge_workloads.train.weights import generator

log = logging.getLogger(__name__)

_MOST_NATS = 700.0  # exp of more is no float


class Samples(Protocol):
    """Gives sample i, whoever asks."""

    def sample(self, index: int) -> npt.NDArray[np.int64]:
        """int64 [sequence_length + 1]."""
        ...


class Countable(Samples, Protocol):
    """Samples that come to an end."""

    def __len__(self) -> int: ...


@dataclass
class Training:
    """Everything that the loop works with; one for each rank."""

    run: TrainingRun
    layout: Layout
    engine: Engine
    samples: Samples
    evaluation_samples: Countable
    saver: Saver
    reporter: Reporter
    metrics: MetricsLog | None
    """Rank 0's."""
    agreement: Agreement
    watchdog: Watchdog
    stop_requested: Callable[[], bool]
    evaluation: EvaluationResult | None = None
    loss: float | None = None
    throughput: Throughput = field(default_factory=Throughput)
    said: float = 0.0


def train(training: Training, *, start: int) -> None:
    """Train from step `start` (steps done so far) to the end. Raises `Suspended` when asked to stop, after saving."""
    spec = training.run.spec
    training.reporter.update(stage="Training")
    for done in range(start + 1, spec.steps + 1):
        stop = training.agreement.ask(training.stop_requested())  # answered while the step is made
        step(training, done)
        last = done == spec.steps
        if last or done % spec.evaluation.every_steps == 0:
            evaluate(training, done)
        if last or done % spec.checkpoint.every_steps == 0:
            save(training, done)
        if stop.answer() and not last:
            suspend(training, done)
    if training.evaluation is None:  # an earlier attempt made the last step
        evaluate(training, spec.steps)
    finish_saving(training)


def step(training: Training, done: int) -> None:
    """One optimizer step, measured and reported; it is number `done`, 1 for the first."""
    spec = training.run.spec
    rate = learning_rate(
        done - 1,
        spec.schedule,
        warmup_steps=spec.schedule.warmup_steps,
        peak=spec.optimizer.learning_rate,
        steps=spec.steps,
    )
    seed_dropout(training, done)
    result = training.engine.train_step(micro_batches(training, done - 1), learning_rate=rate)
    check_finite(result.loss, result.gradient_norm, scaled=result.loss_scale is not None, step=done)
    training.watchdog.beat(done)
    training.saver.check()
    report(training, done, result, rate)


def micro_batches(training: Training, index: int) -> list[Tensor]:
    """This rank's part of the samples of step `index`: [micro, T + 1] each."""
    spec, layout = training.run.spec, training.layout
    share = spec.batch.global_ // layout.data
    first = index * spec.batch.global_ + layout.data_rank * share
    return _batches(training.samples, range(first, first + share), spec.batch.micro)


def evaluate(training: Training, done: int) -> None:
    """Mean loss on as many evaluation samples as fill whole batches: the same ones in every layout.

    Fewer than one batch are used again from the start.
    """
    spec, layout = training.run.spec, training.layout
    training.reporter.update(stage="Evaluating")
    batches = max(1, len(training.evaluation_samples) // spec.batch.global_)
    share = batches * spec.batch.global_ // layout.data
    first = layout.data_rank * share
    indices = [index % len(training.evaluation_samples) for index in range(first, first + share)]
    loss = training.engine.evaluate(_batches(training.evaluation_samples, indices, spec.batch.micro))
    perplexity = math.exp(min(loss, _MOST_NATS))
    training.evaluation = EvaluationResult(step=done, loss=loss, perplexity=perplexity)
    training.watchdog.beat(done)
    training.reporter.update(stage="Training", evaluation=training.evaluation)
    if training.metrics:
        training.metrics.write(done, evaluation_loss=loss, evaluation_perplexity=perplexity)


def save(training: Training, done: int) -> None:
    """Begin a checkpoint."""
    training.reporter.update(stage="Checkpointing")
    training.saver.save(done, training.engine)
    training.watchdog.beat(done)
    training.reporter.update(stage="Training", checkpoint=training.saver.newest)


def suspend(training: Training, done: int) -> None:
    """Save, wait until that is safe, and say so."""
    if training.saver.saved_step != done:
        save(training, done)
    finish_saving(training)
    raise Suspended(f"stopped as asked at step {done}; its checkpoint is complete")


def finish_saving(training: Training) -> None:
    """Until all ranks' parts of the newest checkpoint are in the store, and it is complete."""
    training.reporter.update(stage="Checkpointing")
    training.saver.wait()
    training.agreement.wait()
    training.reporter.update(checkpoint=training.saver.newest)


def report(training: Training, done: int, result: StepResult, rate: float) -> None:
    """Tell the operator and the log files."""
    spec = training.run.spec
    training.loss = result.loss
    tokens_per_second = training.throughput.step(derive.tokens_per_step(spec))
    values = {"loss": result.loss, "learning_rate": rate, "gradient_norm": result.gradient_norm}
    training.reporter.update(
        step=done,
        tokens=done * derive.tokens_per_step(spec),
        tokens_per_second=tokens_per_second,
        eta_seconds=training.throughput.eta(spec.steps - done),
        loss_scale=result.loss_scale,
        checkpoint=training.saver.newest,
        **values,
    )
    if training.metrics:
        training.metrics.write(done, tokens_per_second=tokens_per_second, loss_scale=result.loss_scale, **values)
        _say(training, done, result, tokens_per_second)


def seed_dropout(training: Training, done: int) -> None:
    """Dropout draws from a generator that depends on the step alone: an attempt that resumes draws the same."""
    init = training.run.spec.model.init
    if init is None or init.dropout:
        place = (done, training.layout.data_rank, training.layout.stage)
        torch.manual_seed(generator(training.run.spec.seed, "dropout", *place).initial_seed())


def _say(training: Training, done: int, result: StepResult, tokens_per_second: float) -> None:
    """One line a second at most, for who reads the pod's log."""
    if done in (1, training.run.spec.steps) or time.monotonic() - training.said >= 1:
        training.said = time.monotonic()
        log.info("step %d/%d loss %.4f, %.0f tokens/s", done, training.run.spec.steps, result.loss, tokens_per_second)


def _batches(samples: Samples, indices: range | list[int], micro: int) -> list[Tensor]:
    return [
        torch.from_numpy(np.stack([samples.sample(index) for index in indices[at : at + micro]]))
        for at in range(0, len(indices), micro)
    ]
