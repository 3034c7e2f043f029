"""The newest report of every run, in memory only: after a restart the pods say it again within a second."""

from dataclasses import dataclass
from datetime import datetime

from lmforge_api.run import ProgressReport
from lmforge_operator.kube.resources import Key


@dataclass(frozen=True, slots=True)
class Entry:
    """What was last heard of a run, and when."""

    key: Key
    report: ProgressReport
    received: datetime


class ReportBook:
    """Reports by the object's UID, and the wish that an attempt should save and stop."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._stops: dict[str, int] = {}

    def record(self, key: Key, uid: str, report: ProgressReport, *, received: datetime) -> ProgressReport | None:
        """Keeps a report and gives the one before it; one of an older attempt changes nothing."""
        former = self._entries.get(uid)
        if former is not None and former.report.attempt > report.attempt:
            return former.report
        self._entries[uid] = Entry(key, report, received)
        return former.report if former else None

    def latest(self, uid: str) -> tuple[ProgressReport, datetime] | None:
        """The newest report of an object, and when it came."""
        entry = self._entries.get(uid)
        return (entry.report, entry.received) if entry else None

    def runs(self) -> list[tuple[Key, ProgressReport]]:
        """Every run that has reported, and what it said last."""
        return [(entry.key, entry.report) for entry in self._entries.values()]

    def ask_stop(self, uid: str, attempt: int) -> None:
        """From now on the pods of this attempt are told to save a checkpoint and exit."""
        self._stops[uid] = attempt

    def stop_asked(self, uid: str, attempt: int) -> bool:
        """Whether they are."""
        return self._stops.get(uid) == attempt

    def forget(self, uid: str) -> None:
        """The object is gone, or its run is over."""
        self._entries.pop(uid, None)
        self._stops.pop(uid, None)

    def __len__(self) -> int:
        return len(self._entries)
