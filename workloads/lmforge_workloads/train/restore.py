"""Go on from the newest sound checkpoint.

Every rank checks the checksums of its share of the files, and all have to agree: a rank alone can't tell that a
checkpoint is good. A damaged one is passed over for the one before, and said so.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from lmforge_workloads.common.guards import Agreement
from lmforge_workloads.train import checkpoint
from lmforge_workloads.train.engine import Engine
from lmforge_workloads.train.layout import Layout

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Restored:
    """Where training goes on."""

    step: int = 0
    message: str = ""


class Inspection:
    """Checks checkpoints; the newest already while other ranks are still on their way."""

    def __init__(self, root: Path, layout: Layout) -> None:
        self.root = root
        self.layout = layout
        self.steps = checkpoint.complete_steps(root)
        self._known: dict[int, list[str]] = {}
        if self.steps:
            self.problems(self.steps[0])

    def problems(self, step: int) -> list[str]:
        """What is wrong in this rank's share of the files; read once."""
        if step not in self._known:
            directory = checkpoint.directory_of(self.root, step)
            shares = self.layout.world
            self._known[step] = checkpoint.damaged_files(directory, share=self.layout.rank, shares=shares)
        return self._known[step]


def restore(engine: Engine, inspection: Inspection, agreement: Agreement) -> Restored | None:
    """Load the newest checkpoint that all ranks find sound; None where there is none."""
    passed_over: list[str] = []
    for step in inspection.steps:
        problems = inspection.problems(step)
        if agreement.all(not problems):
            checkpoint.load(engine, checkpoint.directory_of(inspection.root, step), inspection.layout)
            return Restored(step, _message(passed_over, step))
        passed_over.append(f"the checkpoint of step {step} is damaged" + (f" ({problems[0]})" if problems else ""))
        log.error("%s", passed_over[-1])
    return None if not passed_over else Restored(0, _message(passed_over, 0))


def _message(passed_over: list[str], step: int) -> str:
    if not passed_over:
        return ""
    return f"{'; '.join(passed_over)}: went on from " + (f"step {step}" if step else "the start")
