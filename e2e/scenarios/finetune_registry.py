"""As one whose models live in a registry I have a FineTune publish to it, and a service fetch the model from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from openai import OpenAI

from e2e import corpus
from e2e.cluster.paths import Paths
from e2e.lmforge import Kube, Manifest, plugin
from e2e.models import NAME as MODEL
from e2e.serving import MODELS, inference_service, put_model, way_in

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

REPOSITORY, TAG = "lmforge-tests/glossary", "v1"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
PLAIN = {"insecure": True}
"""The cluster's own registry speaks plain http."""


@pytest.fixture(scope="module")
def registry(images: Mapping[str, str]) -> str:
    """Address of the registry that the nodes pull their images from; pods reach it too."""
    return images["operator"].partition("/")[0]


@pytest.fixture(scope="module")
def published(kube: Kube, paths: Paths, registry: str, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The status of a FineTune of a few steps, at its end."""
    put_model(kube, paths)
    table: Path = corpus.glossary(tmp_path_factory.mktemp("rows") / "glossary.csv")
    plugin(kube, "put", table.parent, "pvc://glossary", "--create", "16Mi")
    spec = {
        "model": {"uri": f"pvc://{MODELS}/{MODEL}"},
        "dataset": {"uri": "pvc://glossary/glossary.csv"},
        "precision": "fp32",
        "sequenceLength": 128,
        "steps": 4,
        "batch": {"global": 4, "micro": 4},
        "output": {"publish": {"uri": f"oci://{registry}/{REPOSITORY}:{TAG}", **PLAIN}},
        "resources": {"cpu": "500m", "memory": "6Gi"},
    }
    kube.apply(
        {"apiVersion": "lmforge.dev/v1alpha1", "kind": "FineTune", "metadata": {"name": "glossary"}, "spec": spec}
    )
    return kube.wait_phase("ft/glossary", "Succeeded", seconds=600)


def test_status_names_the_digest_that_the_registry_has_under_the_tag(published: Manifest, registry: str) -> None:
    asked = Request(f"http://{registry}/v2/{REPOSITORY}/manifests/{TAG}", headers={"Accept": OCI_MANIFEST})
    with urlopen(asked, timeout=30) as answer:
        digest = answer.headers["Docker-Content-Digest"]
    assert published["published"] == {"uri": f"oci://{registry}/{REPOSITORY}:{TAG}", "digest": digest}


def test_a_service_fetches_it_from_there_and_answers(kube: Kube, published: Manifest, registry: str) -> None:
    pinned = f"oci://{registry}/{REPOSITORY}@{published['published']['digest']}"
    kube.apply(inference_service("glossary", model={"uri": pinned, "registry": PLAIN}, cache={"claim": MODELS}))
    status = kube.wait("isvc/glossary", lambda s: s.get("phase") == "Ready", what="a ready replica", seconds=300)
    assert (status["model"]["format"], status["model"]["shape"]["layers"]) == ("HuggingFace", 30)
    with way_in(kube, "glossary") as url:
        client = OpenAI(base_url=url, api_key="none", timeout=240, max_retries=0)
        said = client.completions.create(model="glossary", prompt="A decorator is", temperature=0, max_tokens=8)
    print(said.choices[0].text)
    assert said.usage is not None
    assert said.usage.completion_tokens == 8


def test_a_tag_that_is_not_there_is_said(kube: Kube, published: Manifest, registry: str) -> None:
    missing = {"uri": f"oci://{registry}/{REPOSITORY}:v2", "registry": PLAIN}
    kube.apply(inference_service("missing", model=missing, cache={"claim": MODELS}))
    said = f"registry {registry} has no such artifact"
    kube.wait("isvc/missing", lambda s: said in s.get("message", ""), what="why it can't be fetched", seconds=90)
