"""What exists of a FineTune: its spec and status typed, its Jobs, pods, reports and inputs."""

from lmforge_api import derive_finetune as derive
from lmforge_api.finetune import FineTuneSpec, FineTuneStatus
from lmforge_operator.inputs.gather import Input, gather
from lmforge_operator.kinds.finetune.status import OWN
from lmforge_operator.manifests import Manifest
from lmforge_operator.runs.kind import Observed, observed
from lmforge_operator.runs.observed import Seen

Tuning = Observed[FineTuneSpec]
"""A FineTune as this reconcile sees it."""


def observe(manifest: Manifest, seen: Seen, *, image: str) -> Tuning:
    """Read everything once."""
    spec = FineTuneSpec.model_validate(manifest["spec"])
    return observed(
        manifest,
        seen,
        spec=spec,
        status=FineTuneStatus.model_validate(manifest.get("status") or {}),
        image=image,
        inputs=gather(_inputs(spec), seen.lookup, seen.has_claim, own=("FineTune", manifest["metadata"]["name"])),
        derived=derive.derived(spec),
        nodes_that_fit=derive.sizes_that_fit(spec),
        own=OWN,
    )


def _inputs(spec: FineTuneSpec) -> tuple[Input, ...]:
    other = spec.evaluation.dataset
    teacher = spec.distill.teacher if spec.distill else None
    return (
        Input("model", spec.model.from_, spec.model.uri),
        Input("dataset", spec.dataset.from_, spec.dataset.uri),
        Input("evaluation", other.from_ if other else None, other.uri if other else None),
        Input("teacher", teacher.from_ if teacher else None, teacher.uri if teacher else None),
    )
