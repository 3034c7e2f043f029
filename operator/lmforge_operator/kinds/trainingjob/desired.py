"""What an attempt of a TrainingJob consists of. Pure."""

from lmforge_api import derive
from lmforge_api.common import Attempt
from lmforge_api.run import TrainingRun
from lmforge_operator.kinds.trainingjob.observe import Training
from lmforge_operator.runs.launch import Launch
from lmforge_operator.runs.plan import attempt_run, launch_of, path_of
from lmforge_operator.settings import Settings

PROGRAM = "lmforge_workloads.train"


def launch(training: Training, attempt: Attempt, settings: Settings, *, reports_ca: str) -> Launch:
    """Everything that the attempt's Job, Service and ConfigMap are made from."""
    return launch_of(
        training,
        attempt,
        settings,
        image=settings.images.train,
        program=PROGRAM,
        told=_told(training, attempt, settings),
        reports_ca=reports_ca,
    )


def _told(training: Training, attempt: Attempt, settings: Settings) -> TrainingRun:
    """run.json: what the pods are told."""
    spec, run = training.spec, training.run
    each = derive.processes_per_node(spec)
    return TrainingRun(
        **vars(attempt_run(training.owner, attempt, settings, processes_per_node=each)),
        data_parallel=derive.data_parallel_size(spec, nodes=attempt.nodes),
        dataset_path=path_of(run, "dataset", settings) or "",
        evaluation_path=path_of(run, "evaluation", settings),
        tokenizer_path=path_of(run, "tokenizer", settings),
        model_path=path_of(run, "model", settings),
        spec=spec,
    )
