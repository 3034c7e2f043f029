"""Numbers as `kubectl get` prints them."""

from lmforge_api.common import Progress
from lmforge_api.run import ProgressReport


def progress_of(report: ProgressReport, *, steps: int, updated_at: str) -> Progress:
    """A report in the words of status."""
    evaluation = report.evaluation
    return Progress(
        step=report.step,
        steps=steps,
        percent=f"{100 * report.step // max(steps, 1)}%",
        display=f"{report.step}/{steps}",
        loss="" if report.loss is None else f"{report.loss:.3g}" if report.loss < 1 else f"{report.loss:.2f}",
        evaluation_loss="" if evaluation is None else f"{evaluation.loss:.4f}",
        perplexity="" if evaluation is None else f"{evaluation.perplexity:.2f}",
        tokens_per_second="" if report.tokens_per_second is None else short_number(report.tokens_per_second),
        tokens=report.tokens,
        eta="" if report.eta_seconds is None or report.step >= steps else short_duration(report.eta_seconds),
        stage=report.stage,
        updated_at=updated_at,
    )


def short_number(value: float) -> str:
    """Three digits and a unit: 18.2k, 1.05M, 730."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size * 0.9995:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def short_duration(seconds: float) -> str:
    """The two largest units: 1m40s, 2h5m, 3d4h."""
    left = max(0, round(seconds))
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        amount, left = divmod(left, size)
        parts.append((amount, unit))
    while len(parts) > 1 and parts[0][0] == 0:
        parts.pop(0)
    return "".join(f"{amount}{unit}" for amount, unit in parts[:2] if amount) or "0s"
