"""As one who can't tell how a change will do I let a few requests try it, and a bad one is taken back without me."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI

from e2e.cluster.paths import Paths
from e2e.lmforge import Kube, Manifest
from e2e.serving import inference_service, put_model, way_in
from e2e.traffic import Traffic, traffic

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

NAME = "careful"
LOADING = 300.0
"""Seconds that another vLLM may take to load while one is busy."""
STEPS = [{"percent": 25, "seconds": 5}, {"percent": 50, "seconds": 5}]
REQUESTS = 8
PROMPT = "The lighthouse keeper wrote down the weather of every day, and of every night too. " * 90
"""Some 1,600 tokens, which a replica has to read once if it keeps them in its cache, and else each time."""


def rollout(*, first_token_ms: int = 600_000) -> Manifest:
    gates = {"minRequests": REQUESTS, "maxErrorPercent": 0, "maxTtftMs": first_token_ms}
    return {"canary": {"steps": STEPS, "gates": gates}}


@pytest.fixture(scope="module")
def url(kube: Kube, paths: Paths) -> Iterator[str]:
    """A service with one replica that gives new revisions a share of the requests first; Ready."""
    put_model(kube, paths)
    kube.apply(inference_service(NAME, rollout=rollout(), replicas=1))
    kube.wait(f"isvc/{NAME}", lambda s: s.get("phase") == "Ready", what="a ready replica", seconds=LOADING)
    with way_in(kube, NAME) as url:
        yield url


def change(kube: Kube, **spec: Any) -> None:
    kube("patch", f"isvc/{NAME}", "--type=merge", "-p", json.dumps({"spec": spec}))


def canary_at(kube: Kube, percent: int) -> Manifest:
    """Waits until a canary has that share; gives the status."""

    def reached(status: Manifest) -> bool:
        return bool(status.get("canary", {}).get("percent", 0) >= percent)

    return kube.wait(f"isvc/{NAME}", reached, what=f"{percent}% for the canary", seconds=LOADING)


def test_a_good_revision_gets_all_requests_step_by_step_and_none_fails_though_routers_come_and_go(
    kube: Kube, url: str
) -> None:
    old = kube.status(f"isvc/{NAME}")["currentRevision"]
    with traffic(url, NAME, prompt=PROMPT) as flow:
        change(kube, engineArgs={"maxModelLen": 1984})
        status = canary_at(kube, 25)
        new = status["canary"]["revision"]
        assert status["currentRevision"] == old
        assert f"25% of requests go to revision {new}" in status["message"]
        assert status["traffic"] == [{"revision": old, "percent": 75}, {"revision": new, "percent": 25}]
        kube("rollout", "restart", "deployments", "-l", "lmforge.dev/role=revision-router")
        canary_at(kube, 50)
        kube.wait(
            f"isvc/{NAME}",
            lambda s: s.get("currentRevision") == new and s.get("phase") == "Ready",
            what="the new revision serves alone",
            seconds=LOADING,
        )
        kube("wait", f"deployment/{old}", "--for=delete", f"--timeout={LOADING:.0f}s")
    assert flow.failures == []
    assert flow.answered > 2 * REQUESTS


def test_a_revision_that_is_slow_to_begin_is_rolled_back_with_its_numbers_and_the_service_goes_on(
    kube: Kube, url: str
) -> None:
    """Without its prefix cache it reads the whole prompt each time."""
    old = kube.status(f"isvc/{NAME}")["currentRevision"]
    limit = between_known_and_new(url)
    with traffic(url, NAME, prompt=PROMPT) as flow:
        change(kube, rollout=rollout(first_token_ms=limit), engineArgs={"prefixCaching": False})
        status = kube.wait(
            f"isvc/{NAME}", lambda s: s.get("failedRevision") is not None, what="the roll-back", seconds=LOADING
        )
        bad = status["failedRevision"]["revision"]
        assert (status["phase"], status["reason"], status["currentRevision"]) == ("Degraded", "GateFailed", old)
        assert f"Revision {bad} was rolled back: At 25% of the traffic, the first token takes" in status["message"]
        assert f"Revision {old} keeps serving" in status["message"]
        kube("wait", f"deployment/{bad}", "--for=delete", f"--timeout={LOADING:.0f}s")
        assert kube.status(f"isvc/{NAME}")["ready"] == "0/1", "what serves isn't what the spec asks for"
        goes_on(flow)
    assert flow.failures == []


def goes_on(flow: Traffic) -> None:
    """Waits for two more answers."""
    answered, ends = flow.answered, time.monotonic() + 60
    while flow.answered < answered + 2:
        assert time.monotonic() < ends, f"no more answers after the roll-back: {flow.failures}"
        time.sleep(0.1)


def between_known_and_new(url: str) -> int:
    """Milliseconds, well over a first token whose prompt is in the cache, well under one whose prompt isn't."""
    known = min(first_token_ms(url, PROMPT) for _ in range(4))
    new = min(first_token_ms(url, f"{n} {PROMPT}") for n in range(4))
    assert new > 3 * known, f"the cache saves too little for this scenario: {known:.0f} against {new:.0f} ms"
    return round(math.sqrt(known * new))


def first_token_ms(url: str, prompt: str) -> float:
    client = OpenAI(base_url=url, api_key="none", timeout=LOADING, max_retries=0)
    began = time.monotonic()
    with client.completions.create(model=NAME, prompt=prompt, max_tokens=1, stream=True) as stream:
        next(iter(stream))
    return 1000 * (time.monotonic() - began)
