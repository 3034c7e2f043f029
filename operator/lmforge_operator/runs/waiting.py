"""Why an attempt isn't at work yet: an ordered chain of checks; the first finding is what the user reads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lmforge_operator.labels import Reason
from lmforge_operator.runs.observed import JobSeen, PodSeen

_PULL = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
_CONFIG = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff")


@dataclass(frozen=True)
class Finding:
    """What holds it up. `stuck` when it won't pass without somebody's doing."""

    reason: str
    message: str
    stuck: bool = True


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
    if waiting.job and waiting.job.suspended:
        return Finding(Reason.QUEUED, f"Job {waiting.job.name} waits for its queue to admit it", stuck=False)
    return None


def _image(waiting: Waiting) -> Finding | None:
    pods = [pod for pod in waiting.pods if pod.waiting_reason in _PULL]
    if not pods:
        return None
    detail = _one_line(pods[0].waiting_message) or pods[0].waiting_reason
    return Finding(
        Reason.IMAGE_PULL_FAILED,
        f"{_share(pods, waiting)} can't pull the image: {detail}. Correct template.image (or the chart's images), "
        "or name template.imagePullSecrets",
    )


def _config(waiting: Waiting) -> Finding | None:
    pods = [pod for pod in waiting.pods if pod.waiting_reason in _CONFIG]
    if not pods:
        return None
    return Finding(Reason.CONFIG_ERROR, f"pod {pods[0].name} can't start: {_one_line(pods[0].waiting_message)}")


def _unschedulable(waiting: Waiting) -> Finding | None:
    pods = [pod for pod in waiting.pods if pod.unschedulable]
    if not pods:
        return None
    detail = _one_line(pods[0].unschedulable)
    return Finding(Reason.UNSCHEDULABLE, f"{_share(pods, waiting)} can't be scheduled: {detail}{_remedy(detail)}")


def _starting(waiting: Waiting) -> Finding | None:
    running = sum(1 for pod in waiting.pods if pod.started)
    if running >= waiting.nodes:
        return None
    return Finding(Reason.STARTING, f"{running} of {waiting.nodes} pods have started", stuck=False)


_CHECKS: tuple[Check, ...] = (_queued, _image, _config, _unschedulable, _starting)


def _share(pods: Sequence[PodSeen], waiting: Waiting) -> str:
    return f"{len(pods)} of {waiting.nodes} pods"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:400].rstrip(". ")


def _remedy(detail: str) -> str:
    if "persistentvolumeclaim" in detail and "not found" in detail:
        return ". Create the claim, or correct the uri"
    if "Insufficient" in detail:
        return ". Lower resources (or nodes), or free a node"
    if "unbound" in detail:
        return ". Check the claim's storage class: `kubectl describe pvc`"
    return ""
