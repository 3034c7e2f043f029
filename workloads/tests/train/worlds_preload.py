"""Imported once by the fork server of `worlds`: every process of every world is forked from it, ready to train."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from lmforge_workloads.train.startup import import_libraries

import_libraries(cuda=False, tensor_parallel=True)

from lmforge_workloads.train import deepspeed_engine, rank  # noqa: E402, F401
