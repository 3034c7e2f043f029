"""The story of a TrainingJob.

Its text and model have to be there; then an attempt is one Indexed Job that trains and reports. When any of its pods
ends badly the attempt is over and the next one goes on from the last checkpoint. When all pods end well, the artifact
is there and the run has succeeded.
"""

from lmforge_operator.engine.authority import authority
from lmforge_operator.engine.context import Context
from lmforge_operator.kinds.trainingjob import desired
from lmforge_operator.kinds.trainingjob.observe import observe
from lmforge_operator.kube.resources import TRAINING_JOBS
from lmforge_operator.manifests import Manifest
from lmforge_operator.runs.advance import advance
from lmforge_operator.runs.carry_out import carry_out
from lmforge_operator.runs.look import look


async def reconcile(context: Context, manifest: Manifest) -> float | None:
    """Bring one TrainingJob a step further; gives the seconds after which to look again."""
    seen = await look(context, manifest)
    training = observe(manifest, seen, image=context.settings.images.train)
    decision = advance(training.run)
    reports_ca = authority(context.settings.reports.ca_path)
    return await carry_out(
        context,
        TRAINING_JOBS,
        manifest,
        decision,
        plan=lambda attempt: desired.launch(training, attempt, context.settings, reports_ca=reports_ca),
    )
