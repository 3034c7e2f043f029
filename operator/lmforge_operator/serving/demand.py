"""What gateways say about the requests that they hold and pass on. In memory: they say it again within seconds."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from lmforge_api.gateway_run import DemandReport
from lmforge_operator.serving.autoscaler import Held
from lmforge_operator.serving.gates import Counts, total

FRESH = timedelta(seconds=30)
"""An idle gateway reports every ten seconds."""
RECENT = 3.0
"""Seconds: requests that are shorter than the pause between two reports still count as activity."""


@dataclass(frozen=True)
class _Entry:
    report: DemandReport
    received: datetime


class DemandBook:
    """Newest report of each gateway pod, by the service's UID."""

    def __init__(self) -> None:
        self._services: dict[str, dict[str, _Entry]] = {}

    def record(self, uid: str, report: DemandReport, *, received: datetime) -> bool:
        """Keeps a report. True: requests are held of which nothing was known before."""
        pods = self._services.setdefault(uid, {})
        former = pods.get(report.pod)
        pods[report.pod] = _Entry(report, received)
        return report.waiting > 0 and (former is None or former.report.waiting == 0)

    def held(self, uid: str, *, now: datetime) -> Held | None:
        """All gateway pods together, or None while none has been heard of lately."""
        pods = self._services.get(uid, {})
        fresh = [entry.report for entry in pods.values() if entry.received >= now - FRESH]
        if not fresh:
            return None
        return Held(
            waiting=sum(report.waiting for report in fresh),
            running=sum(report.running for report in fresh),
            recent=any(report.total > 0 and report.idle_seconds < RECENT for report in fresh),
        )

    def counts(self, uid: str, traffic_id: str) -> Mapping[str, Counts]:
        """What clients got from each revision since that traffic was told. Pods that have gone since count too."""
        seen = defaultdict(list)
        for entry in self._services.get(uid, {}).values():
            if entry.report.traffic_id == traffic_id:
                for each in entry.report.revisions:
                    seen[each.revision].append(each)
        return {revision: total(counts) for revision, counts in seen.items()}

    def forget(self, uid: str) -> None:
        """The service is gone."""
        self._services.pop(uid, None)
