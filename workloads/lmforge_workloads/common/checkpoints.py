"""Checkpoints of a run, whatever is in them: where they are, which are complete, and which of these are sound.

    checkpoints/step-00000200/manifest.json     every file with its size and SHA-256; without it, there is no checkpoint

Every rank checks the checksums of its share of the files, and all have to agree: a rank alone can't tell that a
checkpoint is good. A damaged one is passed over for the one before, and said so.
"""

import logging
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from lmforge_api.artifact import MANIFEST_NAME
from lmforge_workloads.common import artifact

log = logging.getLogger(__name__)


def directory_of(root: Path, step: int) -> Path:
    """Where the checkpoint of a step is, below the run's directory."""
    return root / "checkpoints" / f"step-{step:08}"


def complete_steps(root: Path) -> list[int]:
    """Steps with a complete checkpoint, newest first."""
    manifests = (root / "checkpoints").glob(f"step-*/{MANIFEST_NAME}")
    return sorted((int(path.parent.name.removeprefix("step-")) for path in manifests), reverse=True)


def damaged_files(directory: Path, *, share: int = 0, shares: int = 1) -> list[str]:
    """What is wrong with every `shares`-th file, beginning with number `share`: ranks divide the reading."""
    manifest = artifact.read_manifest(directory)
    if manifest is None:
        return [f"{MANIFEST_NAME} can't be read"]
    problems = []
    for path in sorted(manifest.files)[share::shares]:
        file = directory / path
        if not file.exists():
            problems.append(f"{path} is missing")
        elif file.stat().st_size != manifest.files[path].size or artifact.entry_of(file) != manifest.files[path]:
            problems.append(f"{path} is damaged")
    return problems


def prune(root: Path, *, keep: int, besides: Iterable[int] = ()) -> None:
    """Remove all but the newest `keep`, and those that are named."""
    for step in complete_steps(root)[keep:]:
        if step not in set(besides):
            shutil.rmtree(directory_of(root, step), ignore_errors=True)


class Inspection:
    """Checks checkpoints; the newest already while other ranks are still on their way."""

    def __init__(self, root: Path, *, rank: int, world: int) -> None:
        self.root = root
        self.rank = rank
        self.world = world
        self.steps = complete_steps(root)
        self._known: dict[int, list[str]] = {}
        if self.steps:
            self.problems(self.steps[0])

    def problems(self, step: int) -> list[str]:
        """What is wrong in this rank's share of the files; read once."""
        if step not in self._known:
            directory = directory_of(self.root, step)
            self._known[step] = damaged_files(directory, share=self.rank, shares=self.world)
        return self._known[step]

    def newest_sound(self, agreed: Callable[[bool], bool]) -> tuple[int, str]:
        """The newest checkpoint that all ranks find sound (0 where there is none), and what to say of others.

        `agreed` tells whether all ranks say yes.
        """
        passed_over: list[str] = []
        for step in self.steps:
            problems = self.problems(step)
            if agreed(not problems):
                return step, _message(passed_over, step)
            passed_over.append(f"the checkpoint of step {step} is damaged" + (f" ({problems[0]})" if problems else ""))
            log.error("%s", passed_over[-1])
        return 0, _message(passed_over, 0)


def _message(passed_over: list[str], step: int) -> str:
    if not passed_over:
        return ""
    return f"{'; '.join(passed_over)}: went on from " + (f"step {step}" if step else "the start")
