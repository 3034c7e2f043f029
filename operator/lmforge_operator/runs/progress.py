"""Numbers as `kubectl get` prints them."""

from lmforge_api.common import Progress
from lmforge_api.run import ProgressReport
from lmforge_operator.words import short_duration, short_number


def progress_of(report: ProgressReport, *, before: Progress, steps: int, updated_at: str) -> Progress:
    """A report in the words of status. The newest evaluation stays: an attempt that resumes hasn't made one yet."""
    evaluation = report.evaluation
    return Progress(
        step=report.step,
        steps=steps,
        percent=f"{100 * report.step // steps}%" if steps else "",
        display=f"{report.step}/{steps}" if steps else "",
        loss="" if report.loss is None else f"{report.loss:.3g}" if report.loss < 1 else f"{report.loss:.2f}",
        evaluation_loss=before.evaluation_loss if evaluation is None else f"{evaluation.loss:.4f}",
        perplexity=before.perplexity if evaluation is None else f"{evaluation.perplexity:.2f}",
        tokens_per_second="" if report.tokens_per_second is None else short_number(report.tokens_per_second),
        tokens=report.tokens,
        eta="" if report.eta_seconds is None or report.step >= steps else short_duration(report.eta_seconds),
        stage=report.stage,
        updated_at=updated_at,
    )
