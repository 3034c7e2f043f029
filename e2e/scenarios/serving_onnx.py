"""As one with small machines I serve a model of four bits on onnxruntime: it answers, and no stream of its is cut."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionUserMessageParam

from e2e.cluster.native import NativeCluster
from e2e.cluster.paths import Paths
from e2e.lmforge import Kube, install, plugin
from e2e.models import ONNX_NAME, smollm2_onnx
from e2e.serving import MODELS, inference_service, stream_while_deleting, way_in

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

NAME = "onnx"
QUESTION: ChatCompletionUserMessageParam = {"role": "user", "content": "What is the capital of France?"}
START = 120.0
"""Seconds that the engine may take to load on two busy cores."""
LONG = 400
"""Tokens of a stream that goes on while its pod is deleted."""


@pytest.fixture(scope="module")
def client(cluster: NativeCluster, kube: Kube, paths: Paths) -> Iterator[OpenAI]:
    """The official one, of a service behind a gateway; Ready."""
    install(kube, cluster.images("onnx"))
    plugin(kube, "put", smollm2_onnx(paths), f"pvc://{MODELS}/{ONNX_NAME}", "--create", "256Mi")
    model = {"uri": f"pvc://{MODELS}/{ONNX_NAME}"}
    kube.apply(inference_service(NAME, engine="onnxruntime", model=model, gateway={}))
    kube.wait(f"isvc/{NAME}", lambda s: s.get("phase") == "Ready", what="proof that it can serve", seconds=START)
    with way_in(kube, NAME) as url:
        yield OpenAI(base_url=url, api_key="none", timeout=START, max_retries=0)


def test_it_answers_rightly_streaming_and_not(kube: Kube, client: OpenAI) -> None:
    whole = client.chat.completions.create(model=NAME, messages=[QUESTION], temperature=0, max_tokens=40)
    text = whole.choices[0].message.content or ""
    assert "Paris" in text
    assert whole.choices[0].finish_reason == "stop"
    stream = client.chat.completions.create(model=NAME, messages=[QUESTION], temperature=0, max_tokens=40, stream=True)
    assert "".join(choice.delta.content or "" for chunk in stream for choice in chunk.choices) == text
    seen = kube.wait(
        f"isvc/{NAME}", lambda s: bool(s.get("performance")), what="tokens/s and first token, as measured", seconds=30
    )
    assert seen["model"]["format"] == "ONNX"


def test_a_long_stream_reaches_its_end_when_its_pod_is_deleted(kube: Kube, client: OpenAI) -> None:
    pod = kube.items("pods", "-l", "lmforge.dev/role=engine")[0]["metadata"]["name"]
    ended = stream_while_deleting(kube, client, model=NAME, pod=pod, tokens=LONG)
    assert ended == ("length", LONG)
    kube("wait", f"pod/{pod}", "--for=delete", "--timeout=60s")
    kube.wait(f"isvc/{NAME}", lambda s: s.get("ready") == "1/1", what="another replica", seconds=START)
    assert client.completions.create(model=NAME, prompt="Hello", max_tokens=2).usage
