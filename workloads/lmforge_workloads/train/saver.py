"""Writes checkpoints: copied to host memory between two steps, then to the store while training goes on.

Each rank writes its shard into one staging directory, flushes it, and adds its index. Rank 0 waits for all indexes,
adds the manifest, renames the directory, and removes what is older than the newest `keep`. A crash at any moment
leaves the checkpoints that were complete before.
"""

import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from lmforge_api.artifact import FileEntry
from lmforge_api.common import CheckpointStatus
from lmforge_workloads.common import artifact
from lmforge_workloads.common.checkpoints import directory_of, prune
from lmforge_workloads.train.checkpoint import STATE, Index, Piece, State, piece_of
from lmforge_workloads.train.engine import Engine
from lmforge_workloads.train.layout import Layout

_POLL_SECONDS = 0.02


class Saver:
    """One rank's part of saving. An error of the background thread is raised by the next call."""

    def __init__(
        self,
        root: Path,
        layout: Layout,
        *,
        attempt: int,
        keep: int,
        created_by: str,
        uri: str = "",
        background: bool,
        saved_step: int = 0,
    ) -> None:
        self.root = root
        self.layout = layout
        self.attempt = attempt
        self.keep = keep
        self.created_by = created_by
        self.uri = uri or f"file://{root}"
        self.background = background
        self.newest: CheckpointStatus | None = None
        self.saved_step = saved_step
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def save(self, step: int, engine: Engine) -> None:
        """Take a snapshot, and begin to write it. Waits for the one before, if that is still being written."""
        self.wait()
        pieces, tensors = self._snapshot(engine)
        state = State(step=step, updates=engine.updates(), scaler=engine.scaler(), tensor=self.layout.tensor)
        self.saved_step = step
        if not self.background:
            self._write(step, pieces, tensors, state)
            return
        self._thread = threading.Thread(target=self._guarded, args=(step, pieces, tensors, state), name="checkpoint")
        self._thread.daemon = True
        self._thread.start()

    def wait(self) -> None:
        """Until this rank's part is written; on rank 0, until the checkpoint is complete."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def check(self) -> None:
        """Raise what went wrong in the background."""
        if self._error is not None:
            raise self._error

    def _snapshot(self, engine: Engine) -> tuple[list[Piece], dict[str, Tensor]]:
        fragments = [fragment for fragment in engine.fragments() if fragment.owned]
        tensors = {
            f"{kind}/{fragment.name}": tensor.detach().to("cpu", copy=True, non_blocking=True)
            for fragment in fragments
            for kind, tensor in fragment.tensors().items()
        }
        if any(fragment.weight.is_cuda for fragment in fragments):
            torch.cuda.synchronize()
        return [piece_of(fragment, self.layout) for fragment in fragments], tensors

    def _guarded(self, step: int, pieces: list[Piece], tensors: dict[str, Tensor], state: State) -> None:
        try:
            self._write(step, pieces, tensors, state)
        except BaseException as error:
            self._error = error

    def _write(self, step: int, pieces: list[Piece], tensors: dict[str, Tensor], state: State) -> None:
        destination = directory_of(self.root, step)
        staged = artifact.stage(destination)
        try:
            self._write_shard(staged, pieces, tensors)
        except (OSError, SafetensorError):
            # A full store gets room back. Others may still be writing beside it; the next attempt sweeps the rest.
            _shard(staged, self.layout.rank).unlink(missing_ok=True)
            raise
        if self.layout.rank == 0:
            self._complete(staged, destination, state)

    def _write_shard(self, staged: Path, pieces: list[Piece], tensors: dict[str, Tensor]) -> None:
        shard = _shard(staged, self.layout.rank)
        save_file(tensors, shard)
        artifact.flush(shard)
        index = Index(attempt=self.attempt, entry=artifact.entry_of(shard), pieces=pieces)
        partial = shard.with_suffix(".part")
        partial.write_text(index.model_dump_json())
        artifact.flush(partial)
        partial.rename(shard.with_suffix(".json"))

    def _complete(self, staged: Path, destination: Path, state: State) -> None:
        known = {}
        for rank in range(self.layout.world):
            shard = _shard(staged, rank)
            known[shard.name] = self._wait_for(shard)
        (staged / STATE).write_text(state.model_dump_json())
        metadata = {"step": str(state.step)}
        manifest = artifact.commit(
            staged, destination, kind="checkpoint", created_by=self.created_by, metadata=metadata, known=known
        )
        self.newest = CheckpointStatus(
            step=state.step,
            uri=f"{self.uri}/checkpoints/{destination.name}",
            digest=manifest.digest,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        prune(self.root, keep=self.keep)

    def _wait_for(self, shard: Path) -> FileEntry:
        """The shard's entry, once its rank has written it in this attempt.

        No time limit: a rank that can't write ends itself, and with it the attempt.
        """
        while True:
            try:
                index = Index.model_validate_json(shard.with_suffix(".json").read_bytes())
            except FileNotFoundError:
                index = None
            if index is not None and index.attempt == self.attempt:
                return index.entry
            time.sleep(_POLL_SECONDS)


def _shard(staged: Path, rank: int) -> Path:
    return staged / f"rank-{rank:05}.safetensors"
