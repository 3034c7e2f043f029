"""Sets what libraries read when they are imported, before any test imports them."""

from lmforge_workloads.finetune import startup

startup.prepare(cuda=False, offline=False)
