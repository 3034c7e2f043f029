"""What a run has come to, in words for its report and its model card. Pure."""

import math
from datetime import UTC, datetime

from lmforge_api.run import EvaluationResult, FineTuneFigures, ProgressReport
from lmforge_workloads.finetune.data import Data
from lmforge_workloads.finetune.keeper import Standing


def facts_of(report: ProgressReport, rows: Data, standing: Standing, *, exported_step: int) -> dict[str, str]:
    """Name -> value; what isn't known is left out."""
    figures = report.fine_tune or FineTuneFigures()
    exported = standing.best if standing.best and standing.best.step == exported_step else standing.newest
    facts = {
        "parameters": _count(figures.parameters),
        "trained": _share(figures.trainable_parameters, figures.parameters),
        "rows": f"{rows.rows.train:,} to train, {rows.rows.evaluation:,} to evaluate",
        "format": rows.format,
        "steps": f"{exported_step:,}",
        "tokens trained on": _count(report.tokens),
        "last training loss": _number(report.loss),
        **_evaluation("before", standing.before),
        **_evaluation("after", exported),
        "attempts": str(report.attempt),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return {name: value for name, value in facts.items() if value}


def _evaluation(when: str, result: EvaluationResult | None) -> dict[str, str]:
    if result is None:
        return {}
    return {f"evaluation loss {when}": _number(result.loss), f"perplexity {when}": _number(result.perplexity)}


def _count(value: int | None) -> str:
    return f"{value:,}" if value else ""


def _share(part: int | None, whole: int | None) -> str:
    return f"{part:,} ({part / whole:.2%})" if part and whole else ""


def _number(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.4f}"
