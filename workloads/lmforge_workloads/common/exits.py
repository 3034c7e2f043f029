"""How a workload ends: its errors, their exit codes, and the last words it leaves for the operator.

    WorkloadError             INTERNAL         a bug of ours
    ├── UserError             USER_ERROR       the spec asks for something impossible
    ├── DataError             DATA_ERROR       an input can't be read; names file and line
    ├── NonFiniteLoss         NON_FINITE_LOSS  the loss is NaN or infinite
    ├── HangDetected          HANG             no step within the timeout
    ├── OutOfMemory           OUT_OF_MEMORY    host or accelerator memory is used up
    ├── StoreFull             STORE_FULL       nothing more can be written
    ├── RegistryUnavailable   REGISTRY_UNAVAILABLE  an OCI registry can't be reached, or breaks off
    ├── PeerLost              PEER_LOST        another rank is gone: its own words say why
    └── Suspended             SUSPENDED        stopped on request, after a checkpoint

`classify` finds the place of errors that libraries raise. A message says what was wrong, where, and what to do.
"""

import contextlib
import errno
import os
from pathlib import Path
from typing import ClassVar

from lmforge_api.run import ExitCode, ExitReport, ProgressReport

_REASONS = {
    ExitCode.INTERNAL: "InternalError",
    ExitCode.USER_ERROR: "UserError",
    ExitCode.DATA_ERROR: "DataError",
    ExitCode.NON_FINITE_LOSS: "NonFiniteLoss",
    ExitCode.HANG: "Hang",
    ExitCode.OUT_OF_MEMORY: "OutOfMemory",
    ExitCode.STORE_FULL: "StoreFull",
    ExitCode.PEER_LOST: "PeerLost",
    ExitCode.REGISTRY_UNAVAILABLE: "RegistryUnavailable",
    ExitCode.SUSPENDED: "Suspended",
}
_LOG_BYTES = 4096  # what Kubernetes keeps of a termination log
_MESSAGE_BYTES = 1500  # JSON may write a byte as two, and needs room for the rest
_PEER_SIGNS = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Connection refused",
    "Broken pipe",
    "Socket closed",
    "failed to recv, got 0 bytes",
    "NCCL communicator was aborted",
    "remote process exited",
)


class WorkloadError(Exception):
    """Root of the tree."""

    exit_code: ClassVar[ExitCode] = ExitCode.INTERNAL

    @property
    def reason(self) -> str:
        """One CamelCase word for status."""
        return _REASONS[self.exit_code]


class UserError(WorkloadError):
    """The spec, or an input that it names, asks for what can't be done."""

    exit_code = ExitCode.USER_ERROR


class DataError(WorkloadError):
    """An input can't be read. `file` and `line` (1 for the first) say where, as far as known."""

    exit_code = ExitCode.DATA_ERROR

    def __init__(self, message: str, *, file: str | None = None, line: int | None = None) -> None:
        place = ":".join(str(part) for part in (file, line) if part is not None)
        super().__init__(f"{place}: {message}" if place else message)
        self.file = file
        self.line = line


class NonFiniteLoss(WorkloadError):
    """The loss is NaN or infinite."""

    exit_code = ExitCode.NON_FINITE_LOSS


class HangDetected(WorkloadError):
    """No step was finished within the timeout."""

    exit_code = ExitCode.HANG


class OutOfMemory(WorkloadError):
    """Host or accelerator memory is used up."""

    exit_code = ExitCode.OUT_OF_MEMORY


class StoreFull(WorkloadError):
    """Nothing more can be written to the store."""

    exit_code = ExitCode.STORE_FULL


class PeerLost(WorkloadError):
    """A collective failed because another rank is gone."""

    exit_code = ExitCode.PEER_LOST


class RegistryUnavailable(WorkloadError):
    """An OCI registry can't be reached, or breaks off: another try may mend it."""

    exit_code = ExitCode.REGISTRY_UNAVAILABLE


class Suspended(WorkloadError):
    """Stopped because it was asked to; its state is saved."""

    exit_code = ExitCode.SUSPENDED


def classify(error: BaseException) -> WorkloadError:
    """The error itself when it is ours, else what a library's error comes to."""
    if isinstance(error, WorkloadError):
        return error
    text = str(error)
    if _is_full(error, text):
        place = getattr(error, "filename", None) or "the store"
        return StoreFull(f"no space is left at {place}: make it larger, or delete old runs")
    # torch.OutOfMemoryError is matched by name: this module must not import torch.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text:
        return OutOfMemory(f"{_first_line(text) or 'memory is used up'}: lower batch.micro or give more memory")
    if type(error).__name__ == "DistBackendError" or any(sign in text for sign in _PEER_SIGNS):
        return PeerLost(f"another rank is gone: {_first_line(text)}")
    return WorkloadError(f"{type(error).__name__}: {_first_line(text)}")


def last_words(
    path: str | Path, error: BaseException, *, step: int = 0, rank: int = 0, progress: ProgressReport | None = None
) -> ExitCode:
    """Write an `ExitReport` to the termination log, if it can be written. Returns the code to exit with."""
    known = classify(error)
    write_exit_report(path, ExitReport(reason=known.reason, message=_cut(str(known)), step=step, rank=rank,
                                       progress=progress))  # fmt: skip
    return known.exit_code


def write_exit_report(path: str | Path, report: ExitReport) -> None:
    """Write last words, if they can be written; what matters least is left out where they would be too long."""
    text = _json(report)
    for dropped in _least(report.progress) if report.progress else ():
        if len(text.encode()) > _LOG_BYTES and report.progress is not None:
            report = report.model_copy(update={"progress": report.progress.model_copy(update=dropped)})
            text = _json(report)
    if len(text.encode()) > _LOG_BYTES:
        text = _json(report.model_copy(update={"progress": None}))
    with contextlib.suppress(OSError):
        Path(path).write_text(text)


def _least(progress: ProgressReport) -> list[dict[str, object]]:
    """What to leave out first, and next: what has been posted before, or can be read in the log."""
    figures = progress.fine_tune.model_copy(update={"rows": None}) if progress.fine_tune else None
    return [{"derived": {}, "message": "", "fine_tune": figures}, {"inputs": []}]


def _json(report: ExitReport) -> str:
    return report.model_dump_json(by_alias=True, exclude_none=True)


def _cut(text: str) -> str:
    return text.encode()[:_MESSAGE_BYTES].decode(errors="ignore")


def _is_full(error: BaseException, text: str) -> bool:
    """safetensors says it in words only."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(os.strerror(code) in text for code in (errno.ENOSPC, errno.EDQUOT))


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0] if lines else ""
