"""Going on from a ZeRO checkpoint with another number of ranks.

DeepSpeed keeps a part of the optimizer's state for each rank. Its universal checkpoints keep it by parameter, and any
number of ranks can load them: where the number has changed, the checkpoint is converted first.
"""

import shutil
from argparse import Namespace
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch

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
    _leave_out_what_differs(staging / f"{step}_universal/zero/optimizer_state.pt")


def count_apart(states: Iterable[dict[str, Any]]) -> None:
    """Give each of the optimizer's states a counter of steps of its own.

    ZeRO 3 loads one for all groups of parameters, and each group's step raises it: Adam corrects its bias by too many.
    """
    for state in states:
        if torch.is_tensor(state.get("step")):
            state["step"] = state["step"].clone()


def _leave_out_what_differs(path: Path) -> None:
    """ZeRO 3 loads the first group's settings into all groups: where they differ, each keeps those it was made with."""
    everything = torch.load(path, weights_only=False)
    if "optimizer_state_dict" not in everything:  # ZeRO 1 and 2 load each group's own
        return
    first, *others = everything["optimizer_state_dict"]["param_groups"]
    for name in [name for name in first if any(group[name] != first[name] for group in others)]:
        if name != "params":
            del first[name]
    torch.save(everything, path)


def _ranks(checkpoint: Path) -> int:
    """How many saved it: each its state of random numbers, one alone under another name."""
    return len(list(checkpoint.glob("rng_state_*.pth"))) or 1
