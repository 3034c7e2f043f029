"""Why pods aren't at work: each check gives the sentence that the user reads, or nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from lmforge_operator.labels import Reason
from lmforge_operator.pods.state import PodState

_PULL = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
_CONFIG = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
CRASHING = "CrashLoopBackOff"


@dataclass(frozen=True)
class Finding:
    """What holds it up. `stuck` when it won't pass without somebody's doing."""

    reason: str
    message: str
    stuck: bool = True


def image_pull(pods: Sequence[PodState], *, total: int) -> Finding | None:
    """Pods whose image can't be had."""
    held = [pod for pod in pods if pod.waiting_reason in _PULL]
    if not held:
        return None
    detail = one_line(held[0].waiting_message) or held[0].waiting_reason
    return Finding(
        Reason.IMAGE_PULL_FAILED,
        f"{_share(held, total)} can't pull the image: {detail}. Correct template.image (or the chart's images), "
        "or name template.imagePullSecrets",
    )


def container_config(pods: Sequence[PodState]) -> Finding | None:
    """A pod whose container can't be made, e.g. since a Secret is missing."""
    held = next((pod for pod in pods if pod.waiting_reason in _CONFIG), None)
    if held is None:
        return None
    return Finding(Reason.CONFIG_ERROR, f"pod {held.name} can't start: {one_line(held.waiting_message)}")


def unschedulable(pods: Sequence[PodState], *, total: int) -> Finding | None:
    """Pods that fit on no node."""
    held = [pod for pod in pods if pod.unschedulable]
    if not held:
        return None
    detail = one_line(held[0].unschedulable)
    return Finding(Reason.UNSCHEDULABLE, f"{_share(held, total)} can't be scheduled: {detail}{_remedy(detail)}")


def one_line(text: str) -> str:
    """A message of kubelet or the scheduler, fit for the middle of a sentence."""
    return " ".join(text.split())[:400].rstrip(". ")


def sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _share(pods: Sequence[PodState], total: int) -> str:
    return f"{len(pods)} of {total} pods"


def _remedy(detail: str) -> str:
    if "persistentvolumeclaim" in detail and "not found" in detail:
        return ". Create the claim, or correct the uri"
    if "Insufficient" in detail:
        return ". Lower resources (or nodes), or free a node"
    if "unbound" in detail:
        return ". Check the claim's storage class: `kubectl describe pvc`"
    return ""
