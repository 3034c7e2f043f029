import errno
from pathlib import Path

import pytest

from lmforge_api.common import ArtifactStatus, InputStatus
from lmforge_api.finetune_results import Rows, TrainedAdapter
from lmforge_api.run import ExitCode, ExitReport, FineTuneFigures, ProgressReport
from lmforge_workloads.common import exits


class OutOfMemoryError(RuntimeError):
    """As torch's is called."""


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (exits.UserError("no"), ExitCode.USER_ERROR, "UserError"),
        (exits.DataError("bad", file="a.txt", line=3), ExitCode.DATA_ERROR, "DataError"),
        (exits.Suspended("saved at step 3"), ExitCode.SUSPENDED, "Suspended"),
        (OSError(errno.ENOSPC, "No space left on device", "/mnt/store/x"), ExitCode.STORE_FULL, "StoreFull"),
        (
            RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
            ExitCode.STORE_FULL,
            "StoreFull",
        ),
        (MemoryError(), ExitCode.OUT_OF_MEMORY, "OutOfMemory"),
        (OutOfMemoryError("CUDA out of memory. Tried…"), ExitCode.OUT_OF_MEMORY, "OutOfMemory"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            ExitCode.OUT_OF_MEMORY,
            "OutOfMemory",
        ),
        (RuntimeError("[gloo/tcp/pair.cc] Connection closed by peer [10.0.0.2]"), ExitCode.PEER_LOST, "PeerLost"),
        (KeyError("x"), ExitCode.INTERNAL, "InternalError"),
    ],
)
def test_every_end_has_its_code_and_its_word(tmp_path: Path, error: Exception, code: ExitCode, reason: str) -> None:
    path = tmp_path / "log"
    assert exits.last_words(path, error, step=7, rank=2) == code
    report = ExitReport.model_validate_json(path.read_text())
    assert (report.reason, report.step, report.rank) == (reason, 7, 2)


def test_a_data_error_begins_with_file_and_line() -> None:
    assert str(exits.DataError("this is not UTF-8", file="a.txt", line=3)) == "a.txt:3: this is not UTF-8"


def test_last_words_fit_into_a_termination_log_whatever_is_said(tmp_path: Path) -> None:
    exits.last_words(tmp_path / "log", exits.UserError('日本\n"' * 10_000))
    assert len((tmp_path / "log").read_bytes()) <= 4096
    ExitReport.model_validate_json((tmp_path / "log").read_text())


def test_a_termination_log_that_can_not_be_written_changes_nothing(tmp_path: Path) -> None:
    assert exits.last_words(tmp_path / "no/such/place", exits.UserError("no")) == ExitCode.USER_ERROR


def test_last_words_carry_the_newest_progress(tmp_path: Path) -> None:
    exits.last_words(tmp_path / "log", exits.NonFiniteLoss("NaN"), progress=ProgressReport(attempt=1, step=3))
    report = ExitReport.model_validate_json((tmp_path / "log").read_text())
    assert report.progress is not None
    assert report.progress.step == 3


def test_the_artifact_is_told_even_when_not_everything_fits(tmp_path: Path) -> None:
    inputs = [InputStatus(name="dataset", uri="s3://" + "x" * 1000, digest="sha256:" + "0" * 64)] * 4
    artifact = ArtifactStatus(uri="pvc://store/run/artifact", digest="sha256:" + "1" * 64)
    newest = ProgressReport(attempt=1, step=3, message="x" * 900, inputs=inputs, artifact=artifact)
    exits.write_exit_report(tmp_path / "log", ExitReport(reason="Completed", progress=newest))
    assert len((tmp_path / "log").read_bytes()) <= 4096
    report = ExitReport.model_validate_json((tmp_path / "log").read_text())
    assert report.progress is not None
    assert report.progress.artifact == artifact


def test_an_adapter_is_told_even_when_not_all_that_is_wrong_with_rows_fits(tmp_path: Path) -> None:
    adapter = TrainedAdapter(uri="pvc://store/run/adapter", digest="sha256:" + "2" * 64, rank=16)
    figures = FineTuneFigures(adapter=adapter, rows=Rows(empty=10, examples=["日本.csv: row 7 is empty " * 30] * 10))
    newest = ProgressReport(attempt=1, step=3, fine_tune=figures)
    exits.write_exit_report(tmp_path / "log", ExitReport(reason="Completed", progress=newest))
    report = ExitReport.model_validate_json((tmp_path / "log").read_text())
    assert report.progress is not None
    assert report.progress.fine_tune == FineTuneFigures(adapter=adapter)
