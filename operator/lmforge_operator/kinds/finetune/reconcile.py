"""The story of a FineTune.

Its model, its rows and, with distillation, its teacher have to be there; then it lives as every run does: an attempt is
one Indexed Job that trains and reports, a bad end of any pod leads to the next attempt from the last checkpoint. When
all pods end well, the model or the adapter is there, and status says what it has learned.
"""

from lmforge_operator.engine.authority import authority
from lmforge_operator.engine.context import Context
from lmforge_operator.kinds.finetune import desired
from lmforge_operator.kinds.finetune.observe import observe
from lmforge_operator.kube.resources import FINE_TUNES
from lmforge_operator.manifests import Manifest
from lmforge_operator.runs.advance import advance
from lmforge_operator.runs.carry_out import carry_out
from lmforge_operator.runs.look import look


async def reconcile(context: Context, manifest: Manifest) -> float | None:
    """Bring one FineTune a step further; gives the seconds after which to look again."""
    seen = await look(context, manifest)
    tuning = observe(manifest, seen, image=context.settings.images.finetune)
    decision = advance(tuning.run)
    reports_ca = authority(context.settings.reports.ca_path)
    return await carry_out(
        context,
        FINE_TUNES,
        manifest,
        decision,
        plan=lambda attempt: desired.launch(tuning, attempt, context.settings, reports_ca=reports_ca),
    )
