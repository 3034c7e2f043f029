"""What a FineTune's status says besides what every run's does: what it has learned, at which cost. Pure."""

from lmforge_api.common import RunStatus
from lmforge_api.finetune import FineTuneStatus
from lmforge_api.finetune_results import BeforeAndAfter, Trainable
from lmforge_api.run import EvaluationResult, FineTuneFigures, ProgressReport
from lmforge_operator.runs.run import Own
from lmforge_operator.words import short_bytes


def heard(status: RunStatus, report: ProgressReport) -> FineTuneStatus:
    """What this report says, over what former ones have said: an attempt that resumes need not say all of it again."""
    assert isinstance(status, FineTuneStatus)
    figures = report.fine_tune or FineTuneFigures()
    return status.model_copy(
        update={
            "evaluation": _evaluation(status.evaluation, figures.evaluation_before, report.evaluation),
            "trainable": _trainable(figures) or status.trainable,
            "epoch": status.epoch if figures.epoch is None else f"{figures.epoch:.2f}",
            "peak_memory": short_bytes(figures.peak_memory_bytes) if figures.peak_memory_bytes else status.peak_memory,
            "rows": figures.rows or status.rows,
            "adapter": figures.adapter or status.adapter,
            "published": figures.published or status.published,
        }
    )


def outcome(status: RunStatus) -> str:
    """Evaluation loss and perplexity, each after its value before training."""
    assert isinstance(status, FineTuneStatus)
    found = status.evaluation
    if not found.loss:
        return ""
    if not found.loss_before:
        return f"Evaluation loss {found.loss}."
    return (
        f"Evaluation loss went from {found.loss_before} to {found.loss}, "
        f"perplexity from {found.perplexity_before} to {found.perplexity}."
    )


def _evaluation(
    known: BeforeAndAfter, before: EvaluationResult | None, after: EvaluationResult | None
) -> BeforeAndAfter:
    update = dict[str, str]()
    if before:
        update |= {"loss_before": f"{before.loss:.4f}", "perplexity_before": f"{before.perplexity:.2f}"}
    if after:
        update |= {"loss": f"{after.loss:.4f}", "perplexity": f"{after.perplexity:.2f}"}
    return known.model_copy(update=update)


def _trainable(figures: FineTuneFigures) -> Trainable | None:
    if figures.trainable_parameters is None or not figures.parameters:
        return None
    share = 100 * figures.trainable_parameters / figures.parameters
    return Trainable(parameters=figures.trainable_parameters, of=figures.parameters, share=f"{share:.3g}%")


OWN = Own(heard=heard, outcome=outcome)
