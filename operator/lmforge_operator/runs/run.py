"""A run as one reconcile sees it, and what the reconcile decides. Pure data."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from lmforge_api.common import Attempt, RunStatus, Scheduling
from lmforge_api.run import ProgressReport
from lmforge_api.run_fields import FailurePolicy
from lmforge_operator.inputs.gather import NO_INPUTS, Inputs
from lmforge_operator.labels import Reason
from lmforge_operator.pods.state import timestamp
from lmforge_operator.runs.observed import JobSeen, PodSeen


class RunSpec(Protocol):
    """The fields that every run kind's spec has."""

    @property
    def suspend(self) -> bool: ...
    @property
    def nodes(self) -> int: ...
    @property
    def steps(self) -> int | None: ...
    @property
    def failure_policy(self) -> FailurePolicy: ...
    @property
    def scheduling(self) -> Scheduling: ...
    @property
    def active_deadline_seconds(self) -> int | None: ...
    @property
    def ttl_seconds_after_finished(self) -> int | None: ...


def _nothing_more(status: RunStatus, report: ProgressReport) -> RunStatus:
    return status


def _evaluation_loss(status: RunStatus) -> str:
    loss = status.progress.evaluation_loss
    return f"Evaluation loss {loss}." if loss else ""


@dataclass(frozen=True)
class Own:
    """What a kind of run adds to the life that all of them have."""

    heard: Callable[[RunStatus, ProgressReport], RunStatus] = _nothing_more
    """Takes what only this kind's reports say into its status."""
    outcome: Callable[[RunStatus], str] = _evaluation_loss
    """What a success has come to, in a sentence."""


NOTHING_MORE = Own()


@dataclass(frozen=True)
class Run:
    """Everything that a decision depends on."""

    now: datetime
    generation: int
    spec: RunSpec
    status: RunStatus
    template_hash: str
    jobs: dict[int, JobSeen]
    pods: tuple[PodSeen, ...] = ()
    report: ProgressReport | None = None
    reported_at: datetime | None = None
    inputs: Inputs = NO_INPUTS
    own: Own = NOTHING_MORE
    lost_nodes: frozenset[str] = frozenset()
    """Nodes of this run's pods that don't answer; looked up only where that would explain an end."""
    nodes_that_fit: tuple[int, ...] = ()
    """Sizes that an elastic attempt may have, ascending; empty for a run of fixed size."""

    def pods_of(self, attempt: int) -> tuple[PodSeen, ...]:
        """The attempt's pods in rank order."""
        return tuple(pod for pod in self.pods if pod.attempt == attempt)

    def report_of(self, attempt: int) -> ProgressReport | None:
        """The newest that the attempt said: by a post, or as its last words."""
        said = [pod.report.progress for pod in self.pods_of(attempt) if pod.report and pod.report.progress]
        if self.report:
            said.append(self.report)
        own = [report for report in said if report.attempt == attempt]
        return max(own, key=lambda report: (report.step, report.artifact is not None), default=None)


@dataclass(frozen=True)
class Decision:
    """What a reconcile has to do, in this order: launch, write the status, delete, look again."""

    status: RunStatus
    launch: Attempt | None = None
    delete_jobs: tuple[str, ...] = ()
    ask_stop: int | None = None
    delete_self: bool = False
    look_again: float | None = None


def rfc3339(moment: datetime) -> str:
    """A time as Kubernetes writes it, in whole seconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_since(text: str | None, now: datetime) -> float:
    """Seconds from an RFC 3339 time until now; 0 for none."""
    return (now - timestamp(text)).total_seconds() if text else 0.0


def begun_at(attempt: Attempt) -> str | None:
    """When its pods were first free to start: None while it waits in its queue."""
    return attempt.admitted_at if attempt.queue else attempt.started_at


def was_cut_short(attempt: Attempt) -> bool:
    """By a fault or by others, and not by the user's wish."""
    by_queue = attempt.outcome == "Suspended" and attempt.reason in (Reason.PREEMPTED, Reason.EVICTED)
    return by_queue or attempt.outcome in ("Failed", "Preempted")


def active_seconds(attempts: list[Attempt], now: datetime) -> float:
    """Seconds that attempts took in all, without those in a queue: what activeDeadlineSeconds is compared with."""
    return sum(
        ((timestamp(a.ended_at) if a.ended_at else now) - timestamp(begun)).total_seconds()
        for a in attempts
        if (begun := begun_at(a))
    )
