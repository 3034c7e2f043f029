"""Go on from the newest sound checkpoint."""

from dataclasses import dataclass

from lmforge_workloads.common.checkpoints import Inspection, directory_of
from lmforge_workloads.common.guards import Agreement
from lmforge_workloads.train import checkpoint
from lmforge_workloads.train.engine import Engine
from lmforge_workloads.train.layout import Layout


@dataclass(frozen=True)
class Restored:
    """Where training goes on."""

    step: int = 0
    message: str = ""


def restore(engine: Engine, inspection: Inspection, agreement: Agreement, layout: Layout) -> Restored:
    """Load the newest checkpoint that all ranks find sound; step 0 where there is none."""
    step, message = inspection.newest_sound(agreement.all)
    if step:
        checkpoint.load(engine, directory_of(inspection.root, step), layout)
    return Restored(step, message)
