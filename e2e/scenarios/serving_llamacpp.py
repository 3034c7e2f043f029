"""As one who has a GGUF file I serve it as it is, by llama.cpp, and lose no answer when its pod goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from openai import OpenAI, Stream
from openai.types import Completion

from e2e.cluster.errors import CommandFailed
from e2e.cluster.native import NativeCluster
from e2e.cluster.paths import Paths
from e2e.lmforge import Kube, install, plugin
from e2e.models import smollm2_gguf
from e2e.serving import MODELS, inference_service, way_in

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

NAME = "small"
PROMPT = "The capital of France is"
LONG = 1000
"""Tokens of a stream that lasts until its pod has been told to go, and somewhat longer."""
START = 120.0
"""Seconds that llama-server, which loads in one, may take with all around it on two busy cores."""


@pytest.fixture(scope="module")
def url(cluster: NativeCluster, kube: Kube, paths: Paths) -> Iterator[str]:
    """A service with one replica, behind a gateway; Ready."""
    install(kube, cluster.images("llamacpp"))
    file = smollm2_gguf(paths)
    plugin(kube, "put", file, f"pvc://{MODELS}", "--create", "256Mi")
    kube.apply(
        inference_service(
            NAME,
            engine="llamacpp",
            model={"uri": f"pvc://{MODELS}/{file.name}"},
            engineArgs={"maxModelLen": 2 * LONG},
            resources={"cpu": "200m", "memory": "2Gi"},
            gateway={},
            replicas=1,
        )
    )
    kube.wait(f"isvc/{NAME}", lambda s: s.get("phase") == "Ready", what="a ready replica", seconds=START)
    with way_in(kube, NAME) as url:
        yield url


def client(url: str) -> OpenAI:
    return OpenAI(base_url=url, api_key="none", timeout=START, max_retries=0)


def stream(url: str, prompt: str, *, tokens: int, **extra: object) -> Stream[Completion]:
    """An answer at temperature 0, as it comes."""
    return client(url).completions.create(
        model=NAME, prompt=prompt, temperature=0, max_tokens=tokens, stream=True,
        stream_options={"include_usage": True}, extra_body=extra,
    )  # fmt: skip


def test_a_gguf_file_answers_rightly_whole_and_as_a_stream(kube: Kube, url: str) -> None:
    whole = client(url).completions.create(model=NAME, prompt=PROMPT, temperature=0, max_tokens=8)
    assert "Paris" in whole.choices[0].text
    assert whole.usage
    assert whole.usage.completion_tokens == 8
    parts = [choice.text for chunk in stream(url, PROMPT, tokens=8) for choice in chunk.choices]
    assert len(parts) > 2
    assert "".join(parts) == whole.choices[0].text
    assert [model.id for model in client(url).models.list()] == [NAME]


def test_who_looks_sees_the_engine_its_replica_and_what_it_does(kube: Kube, url: str) -> None:
    for _ in stream(url, "Once upon a time", tokens=LONG, ignore_eos=True):
        pass

    def measured(status: Mapping[str, object]) -> bool:
        shown = status.get("performance")
        return isinstance(shown, dict) and shown.get("tokensPerSecond", "0") not in ("", "0")

    status = kube.wait(f"isvc/{NAME}", measured, what="tokens a second", seconds=60)
    assert (status["ready"], status["phase"], status["model"]["format"]) == ("1/1", "Ready", "GGUF")
    assert "llamacpp" in kube("get", f"isvc/{NAME}").splitlines()[-1].split()


def test_a_stream_reaches_its_end_though_its_pod_is_deleted_and_the_pod_goes_then(kube: Kube, url: str) -> None:
    (pod,) = (each["metadata"]["name"] for each in kube.items("pods", "-l", "lmforge.dev/role=engine"))
    answer = stream(url, "Once upon a time", tokens=LONG, ignore_eos=True)
    next(answer)
    kube("delete", f"pod/{pod}", "--wait=false")
    reason, made = None, 0
    for chunk in answer:
        made = chunk.usage.completion_tokens if chunk.usage else made
        reason = next((choice.finish_reason for choice in chunk.choices if choice.finish_reason), reason)
    assert (reason, made) == ("length", LONG)
    kube("wait", f"pod/{pod}", "--for=delete", "--timeout=30s")  # long before drainSeconds are over
    kube.wait(f"isvc/{NAME}", lambda s: s.get("ready") == "1/1", what="another replica", seconds=START)
    again = client(url).completions.create(model=NAME, prompt=PROMPT, temperature=0, max_tokens=8)
    assert "Paris" in again.choices[0].text


def test_a_gguf_file_under_another_engine_is_refused_with_the_engine_that_loads_it(kube: Kube, url: str) -> None:
    with pytest.raises(CommandFailed, match="write engine: llamacpp"):
        kube.apply(inference_service("wrong", model={"uri": f"pvc://{MODELS}/tiny.gguf"}))
