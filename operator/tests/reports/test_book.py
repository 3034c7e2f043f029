"""The newest report of each run."""

from datetime import UTC, datetime

from lmforge_api.run import ProgressReport
from lmforge_operator.kube.resources import Key
from lmforge_operator.reports.book import ReportBook

KEY = Key("TrainingJob", "ns", "tiny")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_the_newest_report_is_kept_and_the_one_before_it_given() -> None:
    book = ReportBook()
    assert book.record(KEY, "u", ProgressReport(attempt=1, step=1), received=NOW) is None
    former = book.record(KEY, "u", ProgressReport(attempt=1, step=2), received=NOW)
    assert former is not None
    assert former.step == 1
    latest = book.latest("u")
    assert latest is not None
    assert latest[0].step == 2


def test_a_late_report_of_an_earlier_attempt_changes_nothing() -> None:
    book = ReportBook()
    book.record(KEY, "u", ProgressReport(attempt=2, step=5), received=NOW)
    book.record(KEY, "u", ProgressReport(attempt=1, step=9), received=NOW)
    latest = book.latest("u")
    assert latest is not None
    assert (latest[0].attempt, latest[0].step) == (2, 5)


def test_a_stop_is_for_one_attempt() -> None:
    book = ReportBook()
    book.ask_stop("u", 1)
    assert book.stop_asked("u", 1)
    assert not book.stop_asked("u", 2)
    assert not book.stop_asked("other", 1)


def test_a_forgotten_run_leaves_nothing_behind() -> None:
    book = ReportBook()
    book.record(KEY, "u", ProgressReport(attempt=1), received=NOW)
    book.ask_stop("u", 1)
    book.forget("u")
    assert book.latest("u") is None
    assert not book.stop_asked("u", 1)
    assert book.runs() == []
