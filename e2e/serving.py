"""InferenceServices as scenarios use them: a model on a claim, a way in from outside, clients that lose nothing."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from openai import OpenAI

from e2e.cluster.paths import Paths
from e2e.lmforge import Kube, Manifest, NotReached, plugin
from e2e.models import NAME, smollm2

MODELS = "models"


def inference_service(name: str, **spec: Any) -> Manifest:
    """The real model on one CPU pod; `spec` replaces top-level fields."""
    return {
        "apiVersion": "lmforge.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {
            "model": {"uri": f"pvc://{MODELS}/{NAME}"},
            "engineArgs": {"maxModelLen": 2048},
            "resources": {"cpu": "200m", "memory": "4Gi", "sharedMemory": "512Mi"},
            **spec,
        },
    }


def put_model(kube: Kube, paths: Paths) -> None:
    """Copies the real model to the claim `models`."""
    plugin(kube, "put", smollm2(paths), f"pvc://{MODELS}/{NAME}", "--create", "512Mi")


def stream_while_deleting(kube: Kube, client: OpenAI, *, model: str, pod: str, tokens: int) -> tuple[str | None, int]:
    """A stream of so many tokens, and with its first one the pod's deletion: its finish reason, and the tokens made."""
    reason, made, deleted = None, 0, False
    for chunk in client.completions.create(
        model=model, prompt="Once upon a time", max_tokens=tokens, stream=True, stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
    ):  # fmt: skip
        if not deleted:
            kube("delete", "pod", pod, "--wait=false")
            deleted = True
        made = chunk.usage.completion_tokens if chunk.usage else made
        reason = next((choice.finish_reason for choice in chunk.choices if choice.finish_reason), reason)
    return reason, made


@contextmanager
def way_in(kube: Kube, name: str, *, to: str = "", port: int = 80) -> Iterator[str]:
    """Base URL for OpenAI clients on this machine, as `kubectl port-forward` gives it to a user.

    `to`: a part of the service by itself (service/chat-router, pod/…), and not the whole.
    """
    command = [kube.bin / "kubectl", "--kubeconfig", kube.kubeconfig, "--namespace", kube.namespace]
    forward = subprocess.Popen(
        [*map(str, command), "port-forward", to or f"service/{name}", f":{port}"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert forward.stdout
        said = forward.stdout.readline()
        found = re.search(r"127\.0\.0\.1:(\d+)", said)
        if found is None:
            raise NotReached(f"no way in to {to or name}: {said}\n{kube.story(f'isvc/{name}')}")
        yield f"http://127.0.0.1:{found[1]}/v1"
    finally:
        forward.terminate()
        forward.wait()
