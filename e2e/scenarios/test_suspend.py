"""As the one who trains I stop a run and go on with it later as if nothing had been, or delete it without a trace."""

from __future__ import annotations

import json

import pytest

from e2e.jobs import OWNER, Run, assert_nothing_lost_or_doubled, pair
from e2e.lmforge import Kube

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

LONG = {"steps": 800, "checkpoint": {"everySteps": 50}}


def suspend(run: Run, value: bool) -> None:
    """What a user does."""
    run.kube("patch", run.reference, "--type=merge", "-p", json.dumps({"spec": {"suspend": value}}))


def test_a_suspended_run_goes_on_where_it_stopped_bit_for_bit(kube: Kube) -> None:
    kube.apply(pair("stopped", **LONG), pair("not-stopped", **LONG))
    run, twin = Run(kube, "stopped"), Run(kube, "not-stopped")
    run.wait_checkpoint()
    suspend(run, True)
    status = kube.wait_phase(run.reference, "Suspended", seconds=30)
    stopped_at = status["attempts"][0]["step"]
    assert status["checkpoint"]["step"] == stopped_at, "the last step is saved"
    kube("wait", "pods", "-l", f"{OWNER}={run.name}", "--for=delete", "--timeout=30s")
    assert f"step {stopped_at}" in status["message"]

    suspend(run, False)
    status = run.wait_succeeded()
    assert status["attempts"][1]["startStep"] == stopped_at
    assert status["restarts"] == 0
    assert_nothing_lost_or_doubled(run, status)

    twin.wait_succeeded()
    losses = [
        {r["step"]: r["loss"] for r in each.lines("artifact/metrics.jsonl") if "loss" in r} for each in (run, twin)
    ]
    assert losses[0] == losses[1]


def test_a_run_deleted_in_the_middle_leaves_nothing_behind(kube: Kube) -> None:
    kube.apply(pair("deleted", **LONG))
    run = Run(kube, "deleted")
    run.wait_checkpoint()
    kube("delete", run.reference, "--timeout=10s")
    for kind in ("pods", "jobs", "configmaps", "services"):
        kube("wait", kind, "-l", f"{OWNER}={run.name}", "--for=delete", "--timeout=30s")
