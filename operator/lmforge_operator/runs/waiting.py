"""Why an attempt isn't at work yet: an ordered chain of checks; the first finding is what the user reads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lmforge_operator.labels import Reason
from lmforge_operator.pods import holdups
from lmforge_operator.pods.holdups import Finding, one_line
from lmforge_operator.runs.admission import holdup
from lmforge_operator.runs.observed import JobSeen, PodSeen


@dataclass(frozen=True)
class Waiting:
    """What the checks look at."""

    job: JobSeen | None
    pods: Sequence[PodSeen]
    nodes: int


Check = Callable[[Waiting], Finding | None]


def first_finding(waiting: Waiting) -> Finding | None:
    """The most telling reason why not all pods run, or None when they do."""
    return next((found for check in _CHECKS if (found := check(waiting))), None)


def _queued(waiting: Waiting) -> Finding | None:
    job = waiting.job
    if job is None or not job.suspended:
        return None
    if job.place is None:
        return Finding(Reason.QUEUED, f"Job {job.name} is suspended, and not by us: set its spec.suspend to false")
    return holdup(job.place, job.name)


def _image(waiting: Waiting) -> Finding | None:
    return holdups.image_pull(waiting.pods, total=waiting.nodes)


def _config(waiting: Waiting) -> Finding | None:
    return holdups.container_config(waiting.pods)


def _crashing(waiting: Waiting) -> Finding | None:
    held = next((pod for pod in waiting.pods if pod.waiting_reason == holdups.CRASHING), None)
    if held is None:
        return None
    return Finding(Reason.CONFIG_ERROR, f"pod {held.name} can't start: {one_line(held.waiting_message)}")


def _unschedulable(waiting: Waiting) -> Finding | None:
    return holdups.unschedulable(waiting.pods, total=waiting.nodes)


def _starting(waiting: Waiting) -> Finding | None:
    running = sum(1 for pod in waiting.pods if pod.started)
    if running >= waiting.nodes:
        return None
    return Finding(Reason.STARTING, f"{running} of {waiting.nodes} pods have started", stuck=False)


_CHECKS: tuple[Check, ...] = (_queued, _image, _config, _crashing, _unschedulable, _starting)
