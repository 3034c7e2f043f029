"""What an attempt of a FineTune consists of. Pure."""

from dataclasses import replace

from lmforge_api import derive_finetune as derive
from lmforge_api.common import Attempt
from lmforge_api.run import FineTuneRun
from lmforge_operator.kinds.finetune.observe import Tuning
from lmforge_operator.runs.launch import Launch
from lmforge_operator.runs.plan import attempt_run, launch_of, path_of
from lmforge_operator.settings import Settings

PROGRAM = "lmforge_workloads.finetune"


def launch(tuning: Tuning, attempt: Attempt, settings: Settings, *, reports_ca: str) -> Launch:
    """Everything that the attempt's Job, Service and ConfigMap are made from."""
    common = launch_of(
        tuning,
        attempt,
        settings,
        image=settings.images.finetune,
        program=PROGRAM,
        told=_told(tuning, attempt, settings),
        reports_ca=reports_ca,
    )
    return replace(common, registry=tuning.spec.output.publish)


def _told(tuning: Tuning, attempt: Attempt, settings: Settings) -> FineTuneRun:
    """run.json: what the pods are told."""
    spec, run = tuning.spec, tuning.run
    each = derive.processes_per_node(spec)
    return FineTuneRun(
        **vars(attempt_run(tuning.owner, attempt, settings, processes_per_node=each)),
        model_path=path_of(run, "model", settings) or "",
        dataset_path=path_of(run, "dataset", settings) or "",
        evaluation_path=path_of(run, "evaluation", settings),
        teacher_path=path_of(run, "teacher", settings),
        inputs=list(run.inputs.found.values()),
        lineage=list(run.inputs.lineage),
        spec=spec,
    )
