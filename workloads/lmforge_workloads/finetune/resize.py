"""Going on from a ZeRO checkpoint with another number of ranks.

DeepSpeed keeps a part of the optimizer's state for each rank. Its universal checkpoints keep it by parameter, and any
number of ranks can load them: where the number has changed, the checkpoint is converted first.
"""

import shutil
from argparse import Namespace
from contextlib import redirect_stdout
from pathlib import Path

from lmforge_api.run import FineTuneRun


def has_changed(checkpoint: Path, run: FineTuneRun) -> bool:
    """Whether the checkpoint is of ZeRO, and of another number of ranks than there are now."""
    return run.spec.distributed.strategy.startswith("zero") and _ranks(checkpoint) != run.world_size


def convert(checkpoint: Path, staging: Path) -> None:
    """Write a universal checkpoint with all else that the Trainer needs into `staging`; for one rank."""
    import sys

    from deepspeed.checkpoint import ds_to_universal

    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    step = (checkpoint / "latest").read_text().strip()
    for path in checkpoint.iterdir():
        if path.is_file():
            shutil.copyfile(path, staging / path.name)
    with redirect_stdout(sys.stderr):
        ds_to_universal.main(
            Namespace(
                input_folder=str(checkpoint / step),
                output_folder=str(staging / f"{step}_universal"),
                num_extract_workers=1,
                num_merge_workers=1,
                keep_temp_folder=False,
                strict=True,
                inject_missing_state=True,
            )
        )


def _ranks(checkpoint: Path) -> int:
    """How many saved it: each its state of random numbers, one alone under another name."""
    return len(list(checkpoint.glob("rng_state_*.pth"))) or 1
