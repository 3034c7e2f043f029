"""As one whose model is too much for one pod I write how many pods teach it, and they learn what one would."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from e2e import corpus
from e2e.cluster.paths import Paths
from e2e.lmforge import Kube, Manifest, plugin
from e2e.models import NAME as MODEL
from e2e.serving import MODELS, put_model
from lmforge_api import artifact as manifests

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

PREFERENCES = {
    "method": "dpo",
    "lora": {},
    "dataset": {"uri": "pvc://rows/preferences.csv", "split": {"evaluation": 0.17}},
    "optimizer": {"learningRate": 0.0005},
}
RUNS: Mapping[str, Manifest] = {
    "alone": {},
    "zero2": {"distributed": {"strategy": "zero2", "nodes": 2}},
    "fsdp2": {"distributed": {"strategy": "fsdp2", "nodes": 2}},
    "dpo": {"distributed": {"nodes": 2}, **PREFERENCES},
}
TWO_PODS = tuple(name for name, spec in RUNS.items() if spec)
STEPS = 8
FALL = {"zero2": 0.8, "fsdp2": 0.8, "dpo": 0.4}
"""By how much the evaluation loss has to fall within these few steps: nats a token, of dpo nats a pair."""
SAME = 0.002
"""Nats by which the loss may differ where two ranks have added up the gradients."""
NO_PREFERENCE = 0.6931
"""ln 2: the loss of a model that prefers neither answer more than it did before."""


def by(name: str) -> Manifest:
    """A few steps of LoRA on 40 rows, left as an adapter, as the run of this name has them."""
    return {
        "apiVersion": "lmforge.dev/v1alpha1",
        "kind": "FineTune",
        "metadata": {"name": name},
        "spec": {
            "model": {"uri": f"pvc://{MODELS}/{MODEL}"},
            "dataset": {"uri": "pvc://rows/chats.csv", "split": {"evaluation": 0.17}},
            "steps": STEPS,
            "batch": {"global": 8, "micro": 4},
            "precision": "fp32",
            "sequenceLength": 128,
            "optimizer": {"learningRate": 0.001},
            "output": {"merge": False},
            "resources": {"cpu": "200m", "memory": "6Gi"},
            **RUNS[name],
        },
    }


@pytest.fixture(scope="module")
def ended(kube: Kube, paths: Paths, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Manifest]:
    """Name -> status of each at its end, one after the other: two pods take both of the machine's cores."""
    put_model(kube, paths)
    chats = corpus.conversations(paths, tmp_path_factory.mktemp("rows") / "chats.csv")
    corpus.preferences(chats, chats.with_name("preferences.csv"))
    plugin(kube, "put", chats.parent, "pvc://rows", "--create", "16Mi")
    statuses = dict[str, Manifest]()
    for name in RUNS:
        kube.apply(by(name))
        statuses[name] = kube.wait_phase(f"ft/{name}", "Succeeded", seconds=300)
    print(kube("get", "ft", "-o", "wide"))
    return statuses


def losses(status: Manifest) -> tuple[float, float]:
    """Evaluation loss before and after."""
    return float(status["evaluation"]["lossBefore"]), float(status["evaluation"]["loss"])


@pytest.mark.parametrize("name", TWO_PODS)
def test_the_evaluation_loss_falls(name: str, ended: Mapping[str, Manifest]) -> None:
    before, after = losses(ended[name])
    print(f"{name}: {before} to {after}")
    assert after < before - FALL[name]


@pytest.mark.parametrize("name", ["zero2", "fsdp2"])
def test_two_pods_learn_what_one_does(name: str, ended: Mapping[str, Manifest]) -> None:
    assert losses(ended[name]) == pytest.approx(losses(ended["alone"]), abs=SAME)


def test_preferences_begin_with_none(ended: Mapping[str, Manifest]) -> None:
    assert losses(ended["dpo"])[0] == pytest.approx(NO_PREFERENCE, abs=0.001)


@pytest.mark.parametrize("name", TWO_PODS)
def test_status_tells_how_it_was_shared_out(name: str, ended: Mapping[str, Manifest]) -> None:
    status = ended[name]
    (attempt,) = status["attempts"]
    assert (attempt["outcome"], attempt["nodes"], status["restarts"]) == ("Succeeded", 2, 0)
    assert (status["derived"]["worldSize"], status["derived"]["accumulationSteps"]) == ("2", "1")
    assert status["progress"]["display"] == f"{STEPS}/{STEPS}"
    assert status["trainable"] == ended["alone"]["trainable"]
    assert status["checkpoint"]["step"] == STEPS


@pytest.mark.parametrize("name", TWO_PODS)
def test_what_is_left_is_the_adapter_that_status_names(
    name: str, kube: Kube, ended: Mapping[str, Manifest], tmp_path: Path
) -> None:
    artifact = ended[name]["artifact"]
    assert artifact["format"] == "PEFT"
    plugin(kube, "get", f"ft/{name}", tmp_path / name)
    left = manifests.Manifest.model_validate_json((tmp_path / name / manifests.MANIFEST_NAME).read_bytes())
    assert left.digest == artifact["digest"]
    assert json.loads((tmp_path / name / "adapter_config.json").read_text())["r"] == 16
    assert (tmp_path / name / "adapter_model.safetensors").stat().st_size > 2**20
