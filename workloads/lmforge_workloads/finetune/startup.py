"""Import what every rank needs, once and quickly, in the process that the ranks are forked from."""

import os
import tempfile
import warnings
from pathlib import Path

from lmforge_api.run import FineTuneRun
from lmforge_workloads.common.deepspeed import leave_out_shared_memory
from lmforge_workloads.common.launch import Live


def program(run: FineTuneRun) -> Live[FineTuneRun]:
    """A rank's life, with all that it needs imported before the fork: one import for all."""
    prepare(cuda=run.spec.resources.accelerator is not None, offline=not _on_hub(run))
    if run.spec.distributed.strategy.startswith("zero"):
        leave_out_shared_memory()
    from lmforge_workloads.finetune.rank import live

    return live


def prepare(*, cuda: bool, offline: bool) -> None:
    """Set what libraries read when they are imported. CUDA itself must not start before the fork."""
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    os.environ["DS_ACCELERATOR"] = "cuda" if cuda else "cpu"
    # Caches of libraries that can't do without; the root file system may be read-only.
    os.environ.setdefault("HF_HOME", str(Path(tempfile.gettempdir()) / "huggingface"))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if offline:  # else libraries look there for what lies before them
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # Deprecations inside of these libraries are theirs to deal with.
    warnings.filterwarnings("ignore", module=r"(torch|deepspeed|transformers|trl|peft|accelerate)\.")


def _on_hub(run: FineTuneRun) -> bool:
    paths = (run.model_path, run.dataset_path, run.evaluation_path, run.teacher_path)
    return any(path is not None and path.startswith("hf://") for path in paths)
