"""Import what every rank needs, once and quickly, in the process that the ranks are forked from.

Three libraries decorate functions with torch.compile, or ask torch.compile to leave functions alone, while they are
imported or first used. Either imports dynamo, inductor, triton and sympy: as long again as torch itself, and in every
rank. The training loop compiles the model only on CUDA, so elsewhere none of that is loaded.
"""

import contextlib
import importlib
import os
import warnings
from collections.abc import Iterator
from typing import Any

from lmforge_api.run import TrainingRun
from lmforge_workloads.common.deepspeed import leave_out_shared_memory
from lmforge_workloads.common.launch import Live


def program(run: TrainingRun) -> Live[TrainingRun]:
    """A rank's life, with all that it needs imported before the fork: one import for all."""
    import_libraries(cuda=run.spec.resources.accelerator is not None, tensor_parallel=run.spec.parallelism.tensor > 1)
    from lmforge_workloads.train.rank import live

    return live


def import_libraries(*, cuda: bool, tensor_parallel: bool) -> None:
    """Import torch and DeepSpeed (megatron-core where `tensor_parallel`), without touching CUDA."""
    # Asks the driver's management library whether there are GPUs: CUDA itself must not start before the fork.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    os.environ["DS_ACCELERATOR"] = "cuda" if cuda else "cpu"
    # Deprecations inside of these libraries are theirs to deal with.
    warnings.filterwarnings("ignore", module=r"(torch|deepspeed|megatron)\.")
    import deepspeed
    import torch

    leave_out_shared_memory()
    with neutral_compile():
        importlib.import_module("deepspeed.runtime.zero.muon.muon_optimizer")
        if tensor_parallel:
            importlib.import_module("megatron.core.tensor_parallel")
    assert not torch.cuda.is_initialized(), "CUDA was started before the fork"  # type: ignore[no-untyped-call]
    if not cuda:
        _leave_compiler_alone()
        # torch computes in fp16 on every CPU, if slowly; DeepSpeed asks whether oneDNN is fast at it.
        deepspeed.accelerator.get_accelerator().is_fp16_supported = lambda: True


@contextlib.contextmanager
def neutral_compile() -> Iterator[None]:
    """torch.compile returns what it is given, for modules that use it as a decorator while they are imported."""
    import torch

    original, torch.compile = torch.compile, _unchanged  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compile = original


def _unchanged(function: Any = None, **options: object) -> Any:
    return function if function is not None else lambda wrapped: wrapped


def _leave_compiler_alone() -> None:
    """Functions that torch hides from dynamo import it to do so, unless their answer is there (torch/_compile.py)."""
    import torch.compiler
    import torch.utils.checkpoint

    torch.compiler.disable = _unchanged  # type: ignore[assignment]  # DeepSpeed's stage 3 hides its hooks
    for owner in (torch.optim.Optimizer, torch.utils.checkpoint):
        for function in vars(owner).values():
            hidden = getattr(function, "__wrapped__", None)
            if hidden is not None and getattr(function, "__module__", "").startswith("torch."):
                hidden.__dict__.setdefault("__dynamo_disable", hidden)
