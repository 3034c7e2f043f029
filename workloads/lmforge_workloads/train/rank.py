"""One rank's life: find the data, meet the others, build or restore, train, export."""

import logging
import time
from pathlib import Path

from lmforge_api.run import ExitCode, TrainingRun
from lmforge_workloads.common import artifact, rank
from lmforge_workloads.common.checkpoints import Inspection, directory_of
from lmforge_workloads.common.exported import exported
from lmforge_workloads.common.guards import Agreement, StopSignal, Watchdog
from lmforge_workloads.common.launch import Place
from lmforge_workloads.common.metrics import MetricsLog
from lmforge_workloads.common.progress import Reporter
from lmforge_workloads.train import baselines, checkpoint, data, export
from lmforge_workloads.train.engine import Engine
from lmforge_workloads.train.layout import Layout
from lmforge_workloads.train.loop import Training, train
from lmforge_workloads.train.restore import Restored, restore
from lmforge_workloads.train.saver import Saver
from lmforge_workloads.train.task import Task, engine_of, layout_of, task_of

log = logging.getLogger(__name__)


def live(run: TrainingRun, place: Place) -> ExitCode:
    """Run to the end and say how it went. Never raises."""
    return rank.live(run, place, _work, steps=run.spec.steps)


def _work(run: TrainingRun, place: Place, reporter: Reporter, stop: StopSignal) -> None:
    if (status := exported(run)) is not None:
        reporter.update(step=run.spec.steps, artifact=status)
        return
    tokens = _tokens(run, place, reporter)
    reporter.update(stage="Loading", inputs=tokens.inputs())
    if run.spec.model.init is not None and run.spec.model.init.architecture == "ngram":
        reporter.update(artifact=baselines.train_ngram(run, data=tokens, reporter=reporter))
        return
    layout = layout_of(run, rank=place.rank)
    task = task_of(run, vocabulary=tokens.vocabulary)
    inspection = Inspection(Path(run.store.root), rank=place.rank, world=layout.world)
    rank.rendezvous(run, place)
    training, start = _assemble(run, place, layout, task, tokens, inspection, reporter, stop)
    with training.watchdog:
        train(training, start=start)
    if place.rank == 0:
        _export(training, task, tokens)


def _tokens(run: TrainingRun, place: Place, reporter: Reporter) -> data.Data:
    def on_progress(message: str) -> None:
        reporter.update(stage="Tokenizing", message=message)

    if place.rank == 0:
        found = data.prepare(run, on_progress=on_progress)
        reporter.update(message="")
        return found
    day = 86400.0  # rank 0 says how far it is; when it dies, so does the attempt
    return data.wait_for(run, timeout=day, on_progress=on_progress)


def _assemble(
    run: TrainingRun,
    place: Place,
    layout: Layout,
    task: Task,
    tokens: data.Data,
    inspection: Inspection,
    reporter: Reporter,
    stop: StopSignal,
) -> tuple[Training, int]:
    engine = engine_of(task, layout, device=place.device)
    agreement = Agreement()
    restored = _weights(engine, task, inspection, agreement, layout)
    if layout.rank == 0:
        artifact.sweep(inspection.root / "checkpoints")
    agreement.wait()  # nobody writes before the sweep
    derived = {"parameters": str(task.shape.parameters()), "vocabularySize": str(task.shape.vocabulary)}
    reporter.update(start_step=restored.step, step=restored.step, message=restored.message, derived=derived)
    stop.defer()
    log.info("rank %d begins at step %d, %.1f s after the pod", place.rank, restored.step, time.time() - place.started)
    length, seed = run.spec.sequence_length, run.spec.seed
    training = Training(
        run=run,
        layout=layout,
        engine=engine,
        samples=tokens.train_order(sequence_length=length, seed=seed),
        evaluation_samples=tokens.evaluation_samples(sequence_length=length, limit=run.spec.evaluation.samples),
        saver=_saver(run, layout, restored),
        reporter=reporter,
        metrics=_metrics(run, restored) if layout.rank == 0 else None,
        agreement=agreement,
        watchdog=Watchdog(run.spec.failure_policy.hang_timeout_seconds, end=rank.ender(place, reporter)),
        stop_requested=lambda: stop.requested or reporter.stop_requested,
    )
    return training, restored.step


def _weights(engine: Engine, task: Task, inspection: Inspection, agreement: Agreement, layout: Layout) -> Restored:
    restored = restore(engine, inspection, agreement, layout)
    if restored.step == 0:
        with task.first_weights() as source:
            engine.initialise(source)
    return restored


def _saver(run: TrainingRun, layout: Layout, restored: Restored) -> Saver:
    return Saver(
        Path(run.store.root),
        layout,
        attempt=run.attempt,
        keep=run.spec.checkpoint.keep,
        created_by=run.creator,
        uri=run.store.uri,
        background=run.spec.checkpoint.async_,
        saved_step=restored.step,
    )


def _metrics(run: TrainingRun, restored: Restored) -> MetricsLog:
    return MetricsLog(Path(run.store.root), attempt=run.attempt, start_step=restored.step)


def _export(training: Training, task: Task, tokens: data.Data) -> None:
    """The newest checkpoint holds the final weights: they are read from there, one parameter at a time."""
    run = training.run
    training.reporter.update(stage="Exporting")
    outcome = export.Outcome(
        steps=run.spec.steps,
        tokens=training.reporter.report.tokens,
        parameters=task.shape.parameters(),
        loss=training.loss,
        evaluation=training.evaluation,
    )
    directory = directory_of(Path(run.store.root), run.spec.steps)
    status = task.export(checkpoint.whole_weights(directory), data=tokens, outcome=outcome)
    training.reporter.update(artifact=status)
