"""As one who fine-tunes for many customers I add adapters to a running service, change them and take them out again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import NotFoundError, OpenAI

from e2e.cluster.paths import Paths
from e2e.lmforge import Kube, Manifest, plugin
from e2e.lora import make_adapter
from e2e.models import smollm2
from e2e.serving import MODELS, inference_service, put_model, way_in
from e2e.traffic import traffic

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

NAME = "adapted"
LOADING = 300.0
"""Seconds that another vLLM may take to load while one is busy."""
ENGINES = ("-l", "lmforge.dev/role=engine")


@pytest.fixture(scope="module")
def url(kube: Kube, paths: Paths, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service of two replicas with room for adapters, and adapters on its model's claim; Ready."""
    put_model(kube, paths)
    put_adapters(kube, smollm2(paths), tmp_path_factory.mktemp("adapters"))
    room = {"maxModelLen": 1024, "lora": {"maxRank": 16}}
    kube.apply(inference_service(NAME, gateway={}, replicas=2, engineArgs=room))
    kube.wait(f"isvc/{NAME}", lambda s: s.get("ready") == "2/2", what="two replicas", seconds=LOADING)
    with way_in(kube, NAME) as url:
        yield url


def put_adapters(kube: Kube, model: Path, folder: Path) -> None:
    """Two that work, and one of a higher rank than there is room for."""
    for name, seed, rank in (("one", 1, 8), ("two", 2, 8), ("wide", 3, 64)):
        made = make_adapter(model, folder / name, seed=seed, rank=rank)
        plugin(kube, "put", made, f"pvc://{MODELS}/adapters/{name}")


def set_adapters(kube: Kube, **places: str) -> float:
    """Changes the spec; gives the moment."""
    adapters = [{"name": name, "uri": f"pvc://{MODELS}/adapters/{place}"} for name, place in places.items()]
    kube("patch", f"isvc/{NAME}", "--type=merge", "-p", json.dumps({"spec": {"adapters": adapters}}))
    return time.monotonic()


def until_loaded(kube: Kube, name: str, *, uri: str, seconds: float = 60) -> Manifest:
    """Waits until both replicas have the adapter; gives all adapters by name."""

    def adapters(status: Manifest) -> Manifest:
        return {each["name"]: each for each in status.get("adapters", ())}

    def reached(status: Manifest) -> bool:
        found = adapters(status).get(name, {})
        return (found.get("loaded"), found.get("uri")) == ("2/2", f"pvc://{MODELS}/adapters/{uri}")

    return adapters(kube.wait(f"isvc/{NAME}", reached, what=f"{name} on both replicas", seconds=seconds))


def said(url: str, model: str) -> str:
    """What the model goes on with, at temperature 0."""
    client = OpenAI(base_url=url, api_key="none", timeout=LOADING, max_retries=0)
    answer = client.completions.create(model=model, prompt="The capital of France is", temperature=0, max_tokens=12)
    return answer.choices[0].text


def test_adapters_are_added_to_running_replicas_and_a_broken_one_is_an_error_on_it_alone(kube: Kube, url: str) -> None:
    base, pods = said(url, NAME), names_of_engines(kube)
    assert "Paris" in base
    with traffic(url, NAME) as flow:
        began = set_adapters(kube, tone="one", wide="wide", missing="nowhere")
        adapters = until_loaded(kube, "tone", uri="one")
        print(f"from apply to loaded on both replicas, under traffic: {time.monotonic() - began:.2f} s")
        told = {each: broken(kube, each) for each in ("wide", "missing")}
    assert flow.failures == []
    assert adapters["tone"].get("message", "") == ""
    assert "its rank is 64: raise engineArgs.lora.maxRank" in told["wide"]
    assert "there is no adapter" in told["missing"]
    assert said(url, "tone") not in ("", base)
    assert said(url, NAME) == base
    assert kube.status(f"isvc/{NAME}")["phase"] == "Ready"
    assert names_of_engines(kube) == pods, "no replica was replaced"


def broken(kube: Kube, name: str) -> str:
    """Why it can't be loaded."""

    def message(status: Manifest) -> str:
        return next((each.get("message", "") for each in status.get("adapters", ()) if each["name"] == name), "")

    return message(kube.wait(f"isvc/{NAME}", lambda s: bool(message(s)), what=f"what is wrong with {name}", seconds=60))


def names_of_engines(kube: Kube) -> list[str]:
    return sorted(pod["metadata"]["name"] for pod in kube.items("pods", *ENGINES))


def test_the_gateway_lists_the_adapters_without_a_restart(url: str) -> None:
    client = OpenAI(base_url=url, api_key="none", timeout=LOADING, max_retries=0)
    expected, until = [NAME, "tone", "wide", "missing"], time.monotonic() + 30
    while (listed := [model.id for model in client.models.list()]) != expected:
        assert time.monotonic() < until, listed
        time.sleep(0.2)


def test_other_weights_take_over_under_the_same_name_without_a_failed_request(kube: Kube, url: str) -> None:
    before = said(url, "tone")
    with traffic(url, "tone") as flow:
        began = set_adapters(kube, tone="two")
        until_loaded(kube, "tone", uri="two")
        print(f"from apply to other weights on both replicas, under traffic: {time.monotonic() - began:.2f} s")
    assert flow.failures == []
    assert said(url, "tone") != before


def test_a_new_replica_has_its_adapters_before_it_takes_requests(kube: Kube, url: str) -> None:
    text, (gone, kept) = said(url, "tone"), names_of_engines(kube)
    with traffic(url, "tone") as flow:
        kube("delete", "pod", gone, "--wait=true", f"--timeout={LOADING:.0f}s")
        kube.wait(f"isvc/{NAME}", lambda s: s.get("ready") == "2/2", what="two replicas again", seconds=LOADING)
        until_loaded(kube, "tone", uri="two")
    assert flow.failures == []
    (new,) = set(names_of_engines(kube)) - {gone, kept}
    with way_in(kube, NAME, to=f"pod/{new}", port=8000) as alone:
        assert said(alone, "tone") == text


def test_an_adapter_that_is_taken_out_of_the_spec_is_gone(kube: Kube, url: str) -> None:
    set_adapters(kube)
    kube.wait(f"isvc/{NAME}", lambda s: not s.get("adapters"), what="no adapters", seconds=30)
    until = time.monotonic() + 30
    while answers(url, "tone"):
        assert time.monotonic() < until, "requests for it are still answered"
        time.sleep(0.2)


def answers(url: str, model: str) -> bool:
    """Whether there is such a model."""
    try:
        return bool(said(url, model))
    except NotFoundError:
        return False
