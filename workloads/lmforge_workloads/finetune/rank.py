"""One rank's life: find the rows, meet the others, build or restore, train, export."""

import gc
import json
import logging
import time
from pathlib import Path

from transformers import PreTrainedTokenizerBase
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from lmforge_api.common import InputStatus
from lmforge_api.run import ExitCode, FineTuneFigures, FineTuneRun
from lmforge_workloads.common import artifact, rank
from lmforge_workloads.common.checkpoints import Inspection, complete_steps, directory_of
from lmforge_workloads.common.deepspeed import use_ranks_that_have_met
from lmforge_workloads.common.exits import Suspended
from lmforge_workloads.common.guards import Agreement, StopSignal, Watchdog
from lmforge_workloads.common.launch import Place
from lmforge_workloads.common.metrics import MetricsLog
from lmforge_workloads.common.progress import Reporter
from lmforge_workloads.common.store import locate
from lmforge_workloads.finetune import data, export, models, publish, resize
from lmforge_workloads.finetune.build import Trainer, build
from lmforge_workloads.finetune.encode import Encoder
from lmforge_workloads.finetune.facts import facts_of
from lmforge_workloads.finetune.follow import Follow
from lmforge_workloads.finetune.keeper import Keeper, Standing, standing_of

log = logging.getLogger(__name__)


def live(run: FineTuneRun, place: Place) -> ExitCode:
    """Run to the end and say how it went. Never raises."""
    return rank.live(run, place, _work, steps=run.spec.steps or 0)


def _work(run: FineTuneRun, place: Place, reporter: Reporter, stop: StopSignal) -> None:
    if (already := export.left(run)) is not None:
        _tell_again(run, reporter)
        reporter.update(artifact=already[0], fine_tune=already[1])
        if place.rank == 0:
            _publish(run, reporter)
        return
    if place.rank == 0:
        publish.check(run)
    directory = models.directory_of(run.model_path)
    tokenizer = models.load_tokenizer(run, directory)
    rows = _rows(run, place, tokenizer, reporter)
    reporter.update(stage="Loading", inputs=_inputs(run, rows), fine_tune=FineTuneFigures(rows=rows.rows))
    inspection = Inspection(Path(run.store.root), rank=place.rank, world=run.world_size)
    rank.rendezvous(run, place)
    if run.spec.distributed.strategy.startswith("zero"):
        use_ranks_that_have_met()
    agreement = Agreement()
    step, message = inspection.newest_sound(agreement.all)
    reporter.update(start_step=step, step=step, message=message)
    resumed = directory_of(inspection.root, step) if step else None
    standing = standing_of(resumed) if resumed else Standing()
    if not _is_over(resumed, standing):
        standing = _train(run, place, directory, tokenizer, rows, resumed, standing, agreement, reporter, stop)
    if place.rank == 0:
        _export(run, directory, tokenizer, rows, standing, reporter)
        _publish(run, reporter)


def _rows(run: FineTuneRun, place: Place, tokenizer: PreTrainedTokenizerBase, reporter: Reporter) -> data.Data:
    def say(message: str) -> None:
        reporter.update(stage="Tokenizing", message=message)

    if place.rank == 0:
        found = data.prepare(run, Encoder(tokenizer), say=say)
        reporter.update(message="")
        return found
    day = 86400.0  # rank 0 says how far it is; when it dies, so does the attempt
    return data.wait_for(run, timeout=day, say=say)


def _is_over(checkpoint: Path | None, standing: Standing) -> bool:
    """Whether there is nothing left to train."""
    if checkpoint is None:
        return False
    state = json.loads((checkpoint / "trainer_state.json").read_bytes())
    return standing.over or state["global_step"] >= state["max_steps"]


def _train(
    run: FineTuneRun,
    place: Place,
    directory: Path,
    tokenizer: PreTrainedTokenizerBase,
    rows: data.Data,
    resumed: Path | None,
    standing: Standing,
    agreement: Agreement,
    reporter: Reporter,
    stop: StopSignal,
) -> Standing:
    keeper = Keeper(run)
    if place.rank == 0:
        keeper.sweep()
    agreement.wait()  # nobody writes before the sweep
    universal = resumed is not None and resize.has_changed(resumed, run)
    if resumed is not None and universal:
        if place.rank == 0:
            resize.convert(resumed, keeper.universal)
        agreement.wait()
        resumed = keeper.universal
    trainer = build(
        run, directory=directory, tokenizer=tokenizer, data=rows, output=keeper.staging, resuming=resumed is not None,
        universal=universal, device=place.device,
    )  # fmt: skip
    _tell_sizes(trainer, rows, reporter)
    watchdog = Watchdog(run.spec.failure_policy.hang_timeout_seconds, end=rank.ender(place, reporter))
    start = reporter.report.step
    metrics = MetricsLog(Path(run.store.root), attempt=run.attempt, start_step=start) if place.rank == 0 else None
    follow = Follow(
        run,
        rows=len(rows.train),
        reporter=reporter,
        agreement=agreement,
        watchdog=watchdog,
        keeper=keeper if place.rank == 0 else None,
        metrics=metrics,
        standing=standing,
        stop_requested=lambda: stop.requested or reporter.stop_requested,
    )
    trainer.keep(follow)
    stop.defer()
    log.info("rank %d begins at step %d, %.1f s after the pod", place.rank, start, time.time() - place.started)
    with watchdog:
        trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    agreement.wait()  # transformers looks into the staging directory to the end, on all ranks
    if metrics is not None:
        metrics.close()
        keeper.close()
    if follow.suspended:
        raise Suspended(f"stopped as asked at step {trainer.state.global_step}; its checkpoint is complete")
    if follow.standing.over:
        reporter.update(steps=trainer.state.global_step)
    return follow.standing


def _export(
    run: FineTuneRun,
    directory: Path,
    tokenizer: PreTrainedTokenizerBase,
    rows: data.Data,
    standing: Standing,
    reporter: Reporter,
) -> None:
    """From the newest checkpoint, or with early stopping the best: it holds the weights as Hugging Face has them."""
    reporter.update(stage="Exporting")
    gc.collect()  # what was trained is in the checkpoint
    unset_hf_deepspeed_config()  # else models would still be loaded in parts, together with ranks that are done
    root = Path(run.store.root)
    steps = complete_steps(root)
    step = steps[0]
    if run.spec.early_stopping is not None and standing.best is not None and standing.best.step in steps:
        step = standing.best.step
    source = export.Source(
        checkpoint=directory_of(root, step),
        model=directory,
        tokenizer=tokenizer,
        inputs=reporter.report.inputs,
        facts=facts_of(reporter.report, rows, standing, exported_step=step),
    )
    status, adapter = export.export(run, source)
    figures = (reporter.report.fine_tune or FineTuneFigures()).model_copy(update={"adapter": adapter})
    reporter.update(artifact=status, fine_tune=figures)


def _publish(run: FineTuneRun, reporter: Reporter) -> None:
    reporter.update(stage="Exporting")
    published = publish.publish(run)
    figures = (reporter.report.fine_tune or FineTuneFigures()).model_copy(update={"published": published})
    reporter.update(fine_tune=figures)


def _tell_sizes(trainer: Trainer, rows: data.Data, reporter: Reporter) -> None:
    known = reporter.report.fine_tune or FineTuneFigures()
    trained, total = trainer.parameters()
    figures = known.model_copy(update={"trainable_parameters": trained, "parameters": total})
    reporter.update(fine_tune=figures, derived={"format": rows.format, **trainer.derived()})


def _tell_again(run: FineTuneRun, reporter: Reporter) -> None:
    """What an attempt that came to its end without being heard would have said."""
    steps = complete_steps(Path(run.store.root))
    if steps:
        standing = standing_of(directory_of(Path(run.store.root), steps[0]))
        reporter.update(step=steps[0], steps=steps[0], evaluation=standing.newest)


def _inputs(run: FineTuneRun, rows: data.Data) -> list[InputStatus]:
    """As people know them where the operator said so, each with a digest."""
    paths = {
        name: path for name, path in (("model", run.model_path), ("teacher", run.teacher_path)) if path is not None
    }
    found = {each.name: each for each in rows.inputs()}
    found |= {name: InputStatus(name=name, uri=path) for name, path in paths.items()}
    for known in run.inputs:
        ours = found.get(known.name, known)
        found[known.name] = known.model_copy(update={"digest": known.digest or ours.digest})
    return [each if each.digest else _digested(each, paths.get(each.name)) for each in found.values()]


def _digested(status: InputStatus, path: str | None) -> InputStatus:
    return status if path is None else status.model_copy(update={"digest": artifact.digest_of(locate(path))})
