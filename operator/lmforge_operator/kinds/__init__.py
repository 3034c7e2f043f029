"""The kinds: a new one is a folder and a line in this table."""

from lmforge_operator.engine.context import Background, Kind
from lmforge_operator.kinds.finetune.reconcile import reconcile as reconcile_fine_tune
from lmforge_operator.kinds.inferenceservice.reconcile import reconcile as reconcile_inference_service
from lmforge_operator.kinds.trainingjob.reconcile import reconcile as reconcile_training_job
from lmforge_operator.kube.resources import FINE_TUNES, INFERENCE_SERVICES, TRAINING_JOBS
from lmforge_operator.serving.adapters.keep import keep_adapters
from lmforge_operator.serving.scrape import scrape

KINDS = (
    Kind(TRAINING_JOBS, reconcile_training_job),
    Kind(FINE_TUNES, reconcile_fine_tune),
    Kind(INFERENCE_SERVICES, reconcile_inference_service),
)
BACKGROUND: tuple[Background, ...] = (scrape, keep_adapters)
"""What the leader does beside."""
