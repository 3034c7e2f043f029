"""As one whose users are online I scale, change and lose parts of a service, and no request of theirs fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from urllib.request import urlopen

import pytest
from openai import OpenAI
from prometheus_client.parser import text_string_to_metric_families

from e2e.chaos.kill import kill_container, leader
from e2e.cluster.native import NativeCluster
from e2e.cluster.paths import Paths
from e2e.lmforge import SYSTEM_NAMESPACE, Kube, Manifest
from e2e.serving import inference_service, put_model, way_in
from e2e.traffic import Traffic, traffic

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

NAME = "busy"
LOADING = 300.0
"""Seconds that another vLLM may take to load while one is busy."""


@pytest.fixture(scope="module")
def url(kube: Kube, paths: Paths) -> Iterator[str]:
    """A service with one replica, behind a gateway; Ready."""
    put_model(kube, paths)
    kube.apply(inference_service(NAME, gateway={}, replicas=1))
    until(kube, "a ready replica", ready="1/1", phase="Ready")
    with way_in(kube, NAME) as url:
        yield url


def until(kube: Kube, what: str, **wanted: str) -> Manifest:
    """Waits until status says so, and nothing drains any more."""

    def reached(status: Manifest) -> bool:
        settled = not status.get("replicas", {}).get("draining")
        return settled and all(status.get(name) == value for name, value in wanted.items())

    return kube.wait(f"isvc/{NAME}", reached, what=what, seconds=LOADING)


def test_engine_router_and_gateway_answer_the_same_and_a_repeated_prompt_hits_the_prefix_cache(
    kube: Kube, url: str
) -> None:
    prompt = "The lighthouse keeper wrote down the weather of every day. " * 40
    engine = kube.items("pods", "-l", "lmforge.dev/role=engine")[0]["metadata"]["name"]
    with (
        way_in(kube, NAME, to=f"pod/{engine}", port=8000) as alone,
        way_in(kube, NAME, to=f"service/{NAME}-router") as routed,
    ):
        expected = continued(alone, prompt)
        cached = prefix_cache_hits(alone)
        assert continued(routed, prompt) == continued(url, prompt) == expected
        assert prefix_cache_hits(alone) - cached >= 512, "two more prompts of some 480 tokens, mostly known"


def continued(url: str, prompt: str) -> str:
    """What the model goes on with, at temperature 0."""
    client = OpenAI(base_url=url, api_key="none", timeout=LOADING, max_retries=0)
    text = client.completions.create(model=NAME, prompt=prompt, temperature=0, max_tokens=24).choices[0].text
    assert text.strip()
    return text


def prefix_cache_hits(url: str) -> float:
    """Tokens of prompts that this engine has found in its cache so far."""
    with urlopen(url.removesuffix("/v1") + "/metrics", timeout=30) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        samples = (sample for family in families for sample in family.samples)
        return sum(sample.value for sample in samples if sample.name == "vllm:prefix_cache_hits_total")


def test_no_request_fails_while_the_service_scales_changes_and_loses_its_router_and_its_operator(
    kube: Kube, cluster: NativeCluster, url: str
) -> None:
    with traffic(url, NAME) as flow:
        scale_out_and_in(kube, flow)
        lose_the_router_and_the_operator(kube, cluster)
        change_the_engine(kube)
    assert flow.failures == []
    assert flow.answered > 50


def scale_out_and_in(kube: Kube, flow: Traffic) -> None:
    """To two replicas and back; streams on both reach their ends."""
    kube("scale", f"isvc/{NAME}", "--replicas=2")
    until(kube, "two replicas", ready="2/2")
    streams = [threading.Thread(target=flow.stream) for _ in range(4)]
    for stream in streams:
        stream.start()
    kube("scale", f"isvc/{NAME}", "--replicas=1")
    until(kube, "one replica", ready="1/1")
    for stream in streams:
        stream.join()


def lose_the_router_and_the_operator(kube: Kube, cluster: NativeCluster) -> None:
    """Without notice, both at once."""
    router = kube.items("pods", "-l", "lmforge.dev/role=router")[0]["metadata"]["name"]
    kill_container(cluster, kube, router)
    kill_container(cluster, kube.within(SYSTEM_NAMESPACE), str(leader(kube)))
    kube("wait", f"pod/{router}", "--for=condition=Ready=False", "--timeout=30s")
    kube("wait", f"pod/{router}", "--for=condition=Ready", "--timeout=60s")


def change_the_engine(kube: Kube) -> None:
    """Another context length makes another revision, which takes over."""
    before = kube.status(f"isvc/{NAME}")["currentRevision"]
    kube("patch", f"isvc/{NAME}", "--type=merge", "-p", '{"spec": {"engineArgs": {"maxModelLen": 1024}}}')
    after = until(kube, "the new revision", phase="Ready", ready="1/1")
    if after["currentRevision"] == before:  # the patch had not been looked at yet
        kube.wait(f"isvc/{NAME}", lambda s: s["currentRevision"] != before, what="the new revision", seconds=LOADING)
    until(kube, "the old revision gone", phase="Ready", ready="1/1")
