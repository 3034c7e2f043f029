"""What exists of a TrainingJob: its spec and status typed, its Jobs, pods, reports and inputs."""

from lmforge_api import derive
from lmforge_api.trainingjob import TrainingJobSpec, TrainingJobStatus
from lmforge_operator.inputs.gather import Input, gather
from lmforge_operator.manifests import Manifest
from lmforge_operator.runs.kind import Observed, observed
from lmforge_operator.runs.observed import Seen

Training = Observed[TrainingJobSpec]
"""A TrainingJob as this reconcile sees it."""


def observe(manifest: Manifest, seen: Seen, *, image: str) -> Training:
    """Read everything once."""
    spec = TrainingJobSpec.model_validate(manifest["spec"])
    return observed(
        manifest,
        seen,
        spec=spec,
        status=TrainingJobStatus.model_validate(manifest.get("status") or {}),
        image=image,
        inputs=gather(_inputs(spec), seen.lookup, seen.has_claim, own=("TrainingJob", manifest["metadata"]["name"])),
        derived=derive.derived(spec),
        nodes_that_fit=derive.sizes_that_fit(spec),
    )


def _inputs(spec: TrainingJobSpec) -> tuple[Input, ...]:
    other, tokenizer = spec.evaluation.dataset, spec.dataset.tokenizer
    return (
        Input("dataset", spec.dataset.from_, spec.dataset.uri),
        Input("model", spec.model.from_, spec.model.uri),
        Input("evaluation", other.from_ if other else None, other.uri if other else None),
        Input("tokenizer", uri=tokenizer.uri if tokenizer else None),
    )
