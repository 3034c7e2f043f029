"""A run in a few words: builders for specs, Jobs, pods, reports and whole observed runs."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from lmforge_api.common import ArtifactStatus, Attempt, CheckpointStatus
from lmforge_api.run import ExitReport, ProgressReport
from lmforge_api.trainingjob import TrainingJobSpec, TrainingJobStatus
from lmforge_operator.inputs.gather import Inputs
from lmforge_operator.runs.advance import advance
from lmforge_operator.runs.observed import JobSeen, PodSeen, Seen
from lmforge_operator.runs.run import Decision, Run, rfc3339

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CHECKPOINT_EVERY = 50


def at(seconds: float) -> datetime:
    """A moment so many seconds after the beginning."""
    return START + timedelta(seconds=seconds)


def spec(**changes: Any) -> TrainingJobSpec:
    """Four hundred steps on two pods."""
    return TrainingJobSpec.model_validate(
        {
            "model": {"init": {}},
            "dataset": {"uri": "pvc://corpus/docs"},
            "parallelism": {"data": 2},
            "nodes": 2,
            "steps": 400,
            **changes,
        }
    )


def attempt(number: int = 1, *, started: float = 0, **changes: Any) -> Attempt:
    """An attempt that runs on two pods."""
    return Attempt.model_validate({"number": number, "started_at": rfc3339(at(started)), "nodes": 2, **changes})


def failed(number: int, *, reason: str = "Exited", step: int = 60, start_step: int = 0, **changes: Any) -> Attempt:
    """An attempt that is over and counts."""
    return attempt(
        number,
        **{
            "outcome": "Failed",
            "reason": reason,
            "message": f"{reason} happened",
            "step": step,
            "start_step": start_step,
            "ended_at": rfc3339(at(number)),
            "counted": True,
            **changes,
        },
    )


def status(*attempts: Attempt, phase: str = "Running", **changes: Any) -> TrainingJobStatus:
    """A status with these attempts."""
    return TrainingJobStatus.model_validate(
        {"attempts": list(attempts), "phase": phase, "observed_generation": 1, **changes}
    )


def job(number: int = 1, **changes: Any) -> JobSeen:
    """The attempt's Job."""
    return replace(JobSeen(name=f"tiny-tj-{number}", attempt=number, created_at=START, template_hash="t1"), **changes)


def pod(index: int = 0, number: int = 1, **changes: Any) -> PodSeen:
    """A pod at work on node-<index>."""
    base = PodSeen(
        name=f"tiny-tj-{number}-{index}",
        attempt=number,
        index=index,
        node=f"node-{index}",
        phase="Running",
        started=True,
    )
    return replace(base, **changes)


TWO_AT_WORK = (pod(0), pod(1))


def ended_pod(index: int, code: int, number: int = 1, *, reason: str = "", message: str = "", step: int = 0) -> PodSeen:
    """A pod whose workload left last words."""
    words = ExitReport(reason=reason, message=message, step=step) if reason else None
    phase = "Failed" if code else "Succeeded"
    return pod(index, number, phase=phase, exit_code=code, report=words)


def report(number: int = 1, *, step: int = 0, checkpoint: int | None = None, **changes: Any) -> ProgressReport:
    """What rank 0 says."""
    saved = CheckpointStatus(step=checkpoint) if checkpoint else None
    stage = changes.pop("stage", "Training")
    return ProgressReport.model_validate(
        {"attempt": number, "step": step, "steps": 400, "loss": 3.412, "checkpoint": saved, "stage": stage, **changes}
    )


def artifact() -> ArtifactStatus:
    """What a finished run has left."""
    return ArtifactStatus(uri="pvc://lmforge-store/x/artifact", digest="sha256:aa", size_bytes=1, format="HuggingFace")


def run(*, now: float = 30, generation: int = 1, **changes: Any) -> Run:
    """A run as observed, half a minute after its beginning."""
    base: dict[str, Any] = {
        "now": at(now),
        "generation": generation,
        "spec": spec(),
        "status": status(),
        "template_hash": "t1",
        "jobs": {},
        "inputs": Inputs(),
    }
    given = base | changes
    if given.get("report") and "reported_at" not in given:
        given["reported_at"] = at(now - 1)
    return Run(**given)


def decide(**changes: Any) -> Decision:
    """The decision for such a run."""
    return advance(run(**changes))


def seen(**changes: Any) -> Seen:
    """Nothing yet of a run, whose claims are all there, beside these other objects by kind and name."""
    others: dict[tuple[str, str], dict[str, Any]] = changes.pop("others", {})
    given = {
        "now": at(0),
        "lookup": lambda kind, name: others.get((kind, name)),
        "has_claim": lambda claim: True,
        **changes,
    }
    return Seen(**given)
