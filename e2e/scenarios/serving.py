"""As one who builds on a model I apply a few lines, and the official client gets answers, also from zero."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from openai import AuthenticationError, OpenAI
from openai.types.chat import ChatCompletionUserMessageParam

from e2e.cluster.paths import Paths
from e2e.lmforge import Kube
from e2e.serving import inference_service, put_model, way_in
from lmforge_api.gateway import ApiKey, key_hash, key_text

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

NAME = "chat"
QUESTION: ChatCompletionUserMessageParam = {"role": "user", "content": "What is the capital of France?"}
START = 240.0
"""Seconds that vLLM may take to load on two busy cores."""


@pytest.fixture(scope="module")
def key(kube: Kube) -> str:
    """An API key, whose hash is in the Secret `keys`."""
    key = key_text(secrets.token_bytes(24))
    entry = ApiKey(hash=key_hash(key), scopes=["chat", "models"]).model_dump_json(by_alias=True, exclude_none=True)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"alice": entry}}
    kube.apply(secret)
    return key


@pytest.fixture(scope="module")
def url(kube: Kube, paths: Paths, key: str) -> Iterator[str]:
    """A service that may go to zero, with keys; Ready."""
    put_model(kube, paths)
    idle = {"minReplicas": 0, "maxReplicas": 2, "scaleDownDelaySeconds": 5}
    kube.apply(inference_service(NAME, gateway={"auth": {"secretName": "keys"}}, autoscaling=idle))
    kube.wait(f"isvc/{NAME}", lambda s: s.get("phase") == "Ready", what="proof that it can serve", seconds=START)
    with way_in(kube, NAME) as url:
        yield url


def ask(url: str, key: str, *, stream: bool = False) -> str:
    """What the model says to the question at temperature 0, through the official client."""
    client = OpenAI(base_url=url, api_key=key, timeout=START, max_retries=0)
    if not stream:
        whole = client.chat.completions.create(model=NAME, messages=[QUESTION], temperature=0, max_tokens=40)
        assert whole.choices[0].finish_reason == "stop"
        return whole.choices[0].message.content or ""
    parts, reason = [], None
    for chunk in client.chat.completions.create(
        model=NAME, messages=[QUESTION], temperature=0, max_tokens=40, stream=True
    ):
        for choice in chunk.choices:
            parts.append(choice.delta.content or "")
            reason = choice.finish_reason or reason
    assert reason == "stop"
    return "".join(parts)


def test_the_first_request_to_a_service_at_zero_is_answered_and_the_service_goes_back(
    kube: Kube, url: str, key: str
) -> None:
    kube.wait(f"isvc/{NAME}", lambda s: s.get("phase") == "Idle", what="zero replicas when idle", seconds=START)
    kube("wait", "pods", "-l", "lmforge.dev/role=engine", "--for=delete", "--timeout=60s")
    answer = ask(url, key)
    assert "Paris" in answer
    status = kube.wait(f"isvc/{NAME}", lambda s: s.get("phase") == "Ready", what="a ready replica", seconds=30)
    assert status["ready"] == "1/1"
    assert [(step["from"], step["to"]) for step in status["scaling"]["last"]][-1] == (0, 1)
    assert ask(url, key, stream=True) == answer
    kube.wait(f"isvc/{NAME}", lambda s: s.get("phase") == "Idle", what="zero replicas when idle", seconds=90)


def test_who_has_no_key_is_told_so(url: str, key: str) -> None:
    with pytest.raises(AuthenticationError, match="API key"):
        ask(url, "lmf-wrong")
