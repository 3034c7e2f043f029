"""Checkpoints of a FineTune: what transformers' Trainer saves, made to appear as a whole or not at all.

step-00000200/
  model.safetensors or adapter_model.safetensors     with config and tokenizer: what the artifact is made of
  optimizer.pt scheduler.pt rng_state*.pth trainer_state.json    (ZeRO: a folder of DeepSpeed's in their place)
  standing.json                                      what LMForge knows besides
  manifest.json
"""

import shutil
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from lmforge_api.common import CheckpointStatus
from lmforge_api.run import EvaluationResult, FineTuneRun
from lmforge_workloads.common import artifact
from lmforge_workloads.common.checkpoints import directory_of, prune

STANDING = "standing.json"


class Standing(BaseModel):
    """What a run has come to. Never changed: each evaluation makes a new one."""

    model_config = ConfigDict(frozen=True)

    before: EvaluationResult | None = None
    """The model before the first step."""
    newest: EvaluationResult | None = None
    best: EvaluationResult | None = None
    waited: int = 0
    """Evaluations since the best one."""
    over: bool = False
    """Early stopping has ended it."""

    def after(self, result: EvaluationResult, *, min_delta: float, patience: int | None) -> "Standing":
        """What another evaluation makes of it."""
        if result.step == 0:
            return self.model_copy(update={"before": result, "newest": result})
        better = self.best is None or result.loss < self.best.loss - min_delta
        waited = 0 if better else self.waited + 1
        return self.model_copy(update={
            "newest": result,
            "best": result if better else self.best,
            "waited": waited,
            "over": patience is not None and waited >= patience,
        })  # fmt: skip


class Keeper:
    """Turns what a trainer has saved below `staging` into checkpoints; for rank 0."""

    def __init__(self, run: FineTuneRun) -> None:
        self.root = Path(run.store.root)
        self.staging = self.root / "checkpoints" / ".staging-trainer"
        self.universal = self.root / "checkpoints" / ".staging-universal"
        """Where a checkpoint of another number of ranks is converted."""
        self.newest: CheckpointStatus | None = None
        self._keep = run.spec.checkpoint.keep
        self._keep_best = run.spec.early_stopping is not None
        self._uri = run.store.uri or f"file://{self.root}"
        self._creator = run.creator

    def sweep(self) -> None:
        """Remove what an attempt that was killed has left."""
        artifact.sweep(self.root / "checkpoints")

    def commit(self, step: int, standing: Standing) -> CheckpointStatus:
        """Make a checkpoint of what the trainer has saved at this step."""
        staged, destination = self.staging / f"checkpoint-{step}", directory_of(self.root, step)
        (staged / STANDING).write_text(standing.model_dump_json())
        manifest = artifact.commit(
            staged, destination, kind="checkpoint", created_by=self._creator, metadata={"step": str(step)}
        )
        best = [standing.best.step] if self._keep_best and standing.best is not None else []
        prune(self.root, keep=self._keep, besides=best)
        self.newest = CheckpointStatus(
            step=step,
            uri=f"{self._uri}/checkpoints/{destination.name}",
            digest=manifest.digest,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        return self.newest

    def close(self) -> None:
        """Nothing is staged any more."""
        shutil.rmtree(self.staging, ignore_errors=True)
        shutil.rmtree(self.universal, ignore_errors=True)


def standing_of(checkpoint: Path) -> Standing:
    """What the run had come to when the checkpoint was made."""
    return Standing.model_validate_json((checkpoint / STANDING).read_bytes())
