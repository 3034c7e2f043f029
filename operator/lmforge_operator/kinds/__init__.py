"""The kinds: a new one is a folder and a line in this table."""

from lmforge_operator.engine.context import Kind
from lmforge_operator.kinds.trainingjob.reconcile import reconcile as reconcile_training_job
from lmforge_operator.kube.resources import TRAINING_JOBS

KINDS = (Kind(TRAINING_JOBS, reconcile_training_job),)
