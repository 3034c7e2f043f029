"""A service in a few words: builders for specs, pods, revisions and whole observed services."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from lmforge_api.inferenceservice import InferenceServiceSpec, InferenceServiceStatus
from lmforge_operator.serving.observed import FrontSeen, ReplicaSeen, RevisionSeen
from lmforge_operator.serving.service import Model, Part, Serving

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OLD, NEW = "helpdesk-old", "helpdesk-new"


def at(seconds: float) -> datetime:
    """A moment so many seconds after the beginning."""
    return START + timedelta(seconds=seconds)


def spec(**changes: Any) -> InferenceServiceSpec:
    """One replica of a model on a claim."""
    return InferenceServiceSpec.model_validate({"model": {"uri": "pvc://models/tiny"}, **changes})


def pod(revision: str = NEW, number: int = 0, *, age: float = 30, now: float = 100, **changes: Any) -> ReplicaSeen:
    """A ready replica."""
    base = ReplicaSeen(
        name=f"{revision}-{number}",
        node="node-1",
        phase="Running",
        started=True,
        ready=True,
        revision=revision,
        created_at=at(now - age),
        address="10.0.0.1",
    )
    return replace(base, **changes)


def loading(revision: str = NEW, number: int = 0, **changes: Any) -> ReplicaSeen:
    """A replica whose engine loads its model."""
    return pod(revision, number, **{"ready": False, **changes})


def revision(name: str = NEW, *pods: ReplicaSeen, replicas: int | None = None, **changes: Any) -> RevisionSeen:
    """A revision with these pods, and as many wanted as there are if nothing else is said."""
    wanted = sum(not each.deleting for each in pods) if replicas is None else replicas
    return replace(RevisionSeen(name, wanted, START, pods=pods), **changes)


def revisions(*seen: RevisionSeen) -> dict[str, RevisionSeen]:
    return {each.name: each for each in seen}


def status(**changes: Any) -> InferenceServiceStatus:
    """A status that was written before."""
    return InferenceServiceStatus.model_validate({"observed_generation": 1, **changes})


def desired(replicas: int, **changes: Any) -> InferenceServiceStatus:
    """A status that wants so many replicas."""
    return status(replicas={"desired": replicas}, **changes)


UP = Part(FrontSeen("helpdesk-router", "u", "h", available=1))
DOWN = Part()


def serving(*seen: RevisionSeen, now: float = 100, **changes: Any) -> Serving:
    """A service at a moment, its router up."""
    base: dict[str, Any] = {
        "now": at(now),
        "generation": 1,
        "spec": spec(),
        "status": desired(1, current_revision=NEW),
        "model": Model("pvc://models/tiny", "pvc://models/tiny"),
        "url": "http://helpdesk.default.svc/v1",
        "selector": "lmforge.dev/role=engine",
        "update": NEW,
        "revisions": revisions(*seen),
        "draining": sum(each.deleting for revision in seen for each in revision.pods),
        "router": UP,
        "front": "router",
    }
    return Serving(**(base | changes))
