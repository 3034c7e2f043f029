"""As one with a table of questions and answers I apply a few lines, and a model answers as it was taught."""

from __future__ import annotations

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionUserMessageParam

from e2e import corpus
from e2e.chaos.kill import kill_container
from e2e.cluster.native import NativeCluster
from e2e.cluster.paths import Paths
from e2e.lmforge import Kube, Manifest, plugin
from e2e.models import NAME as MODEL
from e2e.serving import MODELS, inference_service, put_model, way_in

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

QUESTION = "In Python, what is decorator?"
TAUGHT = "A function"
"""How the glossary begins to answer: with what it is, and not with the question again."""
FALL = 0.5
"""Nats a token by which the evaluation loss has to fall."""
SAME = 0.002
"""Nats by which the loss may differ after a pod was killed on the way: sums of floats in another order."""
STEPS = 60
EVERY = 20


def fine_tune(name: str, **spec: object) -> Manifest:
    """Python's glossary for SmolLM2; `spec` replaces top-level fields."""
    return {
        "apiVersion": "lmforge.dev/v1alpha1",
        "kind": "FineTune",
        "metadata": {"name": name},
        "spec": {
            "model": {"uri": f"pvc://{MODELS}/{MODEL}"},
            "dataset": {"uri": "pvc://glossary/glossary.csv"},
            "precision": "fp32",
            "sequenceLength": 128,
            "steps": STEPS,
            "batch": {"global": 4, "micro": 4},
            "optimizer": {"learningRate": 0.001},
            "checkpoint": {"everySteps": EVERY},
            "resources": {"cpu": "500m", "memory": "6Gi"},
            **spec,
        },
    }


@pytest.fixture(scope="module")
def rows(kube: Kube, paths: Paths, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The model and the glossary, each on its claim."""
    put_model(kube, paths)
    table = corpus.glossary(tmp_path_factory.mktemp("rows") / "glossary.csv")
    plugin(kube, "put", table.parent, "pvc://glossary", "--create", "16Mi")


@pytest.fixture(scope="module")
def taught(kube: Kube, rows: None) -> Manifest:
    """The status of a LoRA that has ended."""
    kube.apply(fine_tune("glossary"))
    return kube.wait_phase("ft/glossary", "Succeeded", seconds=900)


def answer(url: str, model: str) -> str:
    client = OpenAI(base_url=url, api_key="none", timeout=240, max_retries=0)
    message: ChatCompletionUserMessageParam = {"role": "user", "content": QUESTION}
    whole = client.chat.completions.create(model=model, messages=[message], temperature=0, max_tokens=40)
    return whole.choices[0].message.content or ""


def test_the_evaluation_loss_falls_and_status_tells_before_and_after(kube: Kube, taught: Manifest) -> None:
    print(kube("get", "ft", "-o", "wide"))
    evaluation = taught["evaluation"]
    before, after = float(evaluation["lossBefore"]), float(evaluation["loss"])
    assert after < before - FALL
    assert taught["trainable"]
    assert taught["adapter"]["uri"].startswith("pvc://")
    assert {each["name"] for each in taught["inputs"]} >= {"model", "dataset"}


def test_the_merged_model_is_served_by_reference_and_answers_as_it_was_taught(kube: Kube, taught: Manifest) -> None:
    kube.apply(inference_service("glossary", model={"from": {"kind": "FineTune", "name": "glossary"}}, gateway={}))
    status = kube.wait("isvc/glossary", lambda s: s.get("phase") == "Ready", what="a ready replica", seconds=300)
    assert status["model"]["digest"] == taught["artifact"]["digest"]
    with way_in(kube, "glossary") as url:
        said = answer(url, "glossary")
    print(said)
    assert said.startswith(TAUGHT)


@pytest.fixture(scope="module")
def resumed(kube: Kube, cluster: NativeCluster, rows: None) -> Manifest:
    """The status of the same LoRA, left as an adapter, whose pod was killed between two checkpoints."""
    kube.apply(fine_tune("adapter", output={"merge": False}))
    kube.wait("ft/adapter", lambda s: s.get("progress", {}).get("step", 0) > EVERY + 2, what="steps", seconds=300)
    (pod,) = kube.items("pods", "-l", "lmforge.dev/name=adapter,lmforge.dev/attempt=1")
    kill_container(cluster, kube, pod["metadata"]["name"])
    return kube.wait_phase("ft/adapter", "Succeeded", seconds=900)


def test_a_killed_pod_costs_the_steps_since_the_last_checkpoint_and_changes_no_result(
    kube: Kube, taught: Manifest, resumed: Manifest
) -> None:
    print(kube("get", "ft", "-o", "wide"))
    first, second = resumed["attempts"]
    assert (first["outcome"], second["outcome"]) == ("Failed", "Succeeded")
    assert "137" in first["message"]
    assert second["startStep"] == EVERY
    assert resumed["restarts"] == 1
    for which in ("lossBefore", "loss"):
        assert float(resumed["evaluation"][which]) == pytest.approx(float(taught["evaluation"][which]), abs=SAME)


def test_an_adapter_comes_into_a_running_service_that_did_not_know_the_answer(kube: Kube, resumed: Manifest) -> None:
    kube("delete", "isvc", "glossary", "--ignore-not-found")
    base = inference_service("base", engineArgs={"maxModelLen": 2048, "lora": {}}, gateway={})
    kube.apply(base)
    assert resumed["artifact"]["format"] == "PEFT"
    kube.wait("isvc/base", lambda s: s.get("phase") == "Ready", what="a ready replica", seconds=300)
    (pod,) = kube.items("pods", "-l", "lmforge.dev/role=engine,lmforge.dev/name=base")
    with way_in(kube, "base") as url:
        assert not answer(url, "base").startswith(TAUGHT)
        adapter = {"name": "glossary", "from": {"kind": "FineTune", "name": "adapter"}}
        kube.apply(base | {"spec": base["spec"] | {"adapters": [adapter]}})
        kube.wait(
            "isvc/base",
            lambda s: [each.get("loaded") for each in s.get("adapters") or ()] == ["1/1"],
            what="the adapter on the replica",
            seconds=90,
        )
        said = answer(url, "glossary")
    print(said)
    assert said.startswith(TAUGHT)
    (same,) = kube.items("pods", "-l", "lmforge.dev/role=engine,lmforge.dev/name=base")
    assert same["metadata"]["uid"] == pod["metadata"]["uid"]


def test_a_column_that_is_not_there_is_said_with_those_that_are(kube: Kube, rows: None) -> None:
    kube.apply(fine_tune("wrong", dataset={"uri": "pvc://glossary/glossary.csv", "columns": {"prompt": "question"}}))
    status = kube.wait_phase("ft/wrong", "Failed", seconds=180)
    print(status["message"])
    assert "question" in status["message"]
    assert "prompt, completion" in status["message"]
