"""Argo CD's health scripts, run by a real Lua as Argo CD runs them: `obj` in, `hs` out."""

from pathlib import Path
from typing import Any

import pytest
from lupa import LuaRuntime

from lmforge_api.base import GROUP
from lmforge_api.common import Condition, Progress, RunPhase, RunStatus
from lmforge_api.inferenceservice import InferenceServiceStatus, ServicePhase
from lmforge_api.kinds import KINDS
from lmforge_api.trainingjob import TrainingJobStatus

SCRIPTS = Path(__file__).resolve().parents[3] / "charts/lmforge/files/argocd"

Verdict = tuple[str, str]


def script_of(kind: str) -> str:
    """The script that the chart gives this kind."""
    (found,) = (each for each in KINDS if each.kind == kind)
    return "run.lua" if issubclass(found.status, RunStatus) else "service.lua"


def health(status: dict[str, Any] | None, *, generation: int = 1, kind: str = "TrainingJob") -> Verdict:
    lua = LuaRuntime(unpack_returned_tuples=True)
    manifest: dict[str, Any] = {"kind": kind, "metadata": {"name": "tiny", "generation": generation}, "spec": {}}
    if status is not None:
        manifest["status"] = status
    lua.globals()["obj"] = lua.table_from(manifest, recursive=True)
    result = lua.execute((SCRIPTS / script_of(kind)).read_text())
    return str(result["status"]), str(result["message"])


def status(phase: RunPhase, **fields: Any) -> dict[str, Any]:
    return TrainingJobStatus(phase=phase, observed_generation=1, **fields).wire()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_every_kind_has_a_script(kind: Any, render: Any) -> None:
    assert health(None, kind=kind.kind) == ("Progressing", "The operator has not looked at it yet.")
    given = render({"argocd": {"healthChecks": True}})["ConfigMap", "lmforge-argocd"]["data"]
    script = (SCRIPTS / script_of(kind.kind)).read_text()
    assert given[f"resource.customizations.health.{GROUP}_{kind.kind}"].strip() == script.strip()


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (
            status("Pending", message="Dataset corpus: it is Pending."),
            ("Progressing", "Dataset corpus: it is Pending."),
        ),
        (status("Starting", message="Pulling."), ("Progressing", "Pulling.")),
        (
            status("Running", progress=Progress(display="248/400", eta="1m40s")),
            ("Progressing", "Step 248/400, 1m40s to go"),
        ),
        (status("Running", message="Resumed.", progress=Progress(display="1/4")), ("Progressing", "Step 1/4")),
        (status("Restarting", message="node-1 is gone."), ("Progressing", "node-1 is gone.")),
        (status("Suspended", message="Suspended at step 200."), ("Suspended", "Suspended at step 200.")),
        (status("Succeeded", message="Done."), ("Healthy", "Done.")),
        (status("Failed", message="Out of memory."), ("Degraded", "Out of memory.")),
        (status("Pending", reason="ImagePullFailed", message="No such image."), ("Degraded", "No such image.")),
        ({"phase": "Running"}, ("Progressing", "Running")),
        ({"observedGeneration": 1}, ("Progressing", "The operator has not looked at it yet.")),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_health_follows_the_phase_and_says_the_message(seen: dict[str, Any], expected: Verdict) -> None:
    assert health(seen) == expected


@pytest.mark.parametrize(
    ("phase", "fields", "verdict"),
    [
        ("Pending", {"message": "Waits for a model."}, "Progressing"),
        ("Pending", {"reason": "NotEnoughMemory", "message": "Too large."}, "Degraded"),
        ("Loading", {"message": "0 of 1 replicas."}, "Progressing"),
        ("Updating", {"message": "Half."}, "Progressing"),
        ("Ready", {"message": "2 of 2 replicas are ready."}, "Healthy"),
        ("Idle", {"message": "Scaled to zero."}, "Healthy"),
        ("Degraded", {"message": "Rolled back."}, "Degraded"),
        ("Stopped", {"message": "Stopped."}, "Suspended"),
    ],
)
def test_a_services_health_follows_its_phase(phase: ServicePhase, fields: dict[str, str], verdict: str) -> None:
    seen = InferenceServiceStatus(phase=phase, observed_generation=1, **fields).wire()  # type: ignore[arg-type]
    assert health(seen, kind="InferenceService") == (verdict, fields["message"])
    assert health(seen, kind="InferenceService", generation=2)[0] == "Progressing"


def test_a_service_that_could_not_be_reconciled_is_degraded_by_what_stands_in_its_condition() -> None:
    trouble = Condition(type="Reconciled", status="False", reason="NameTaken", message="The name is taken.")
    seen = InferenceServiceStatus(phase="Ready", observed_generation=1, conditions=[trouble]).wire()
    assert health(seen, kind="InferenceService") == ("Degraded", "The name is taken.")


def test_a_success_of_an_older_generation_is_no_success() -> None:
    assert health(status("Succeeded", message="Done."), generation=2)[0] == "Progressing"
