"""As one who has conversations I choose how a model learns from them; where I choose nothing, five lines are enough."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from e2e import corpus
from e2e.chaos.kill import kill_container
from e2e.cluster.native import NativeCluster
from e2e.cluster.paths import Paths
from e2e.lmforge import Kube, Manifest, plugin
from e2e.models import NAME as MODEL
from e2e.serving import MODELS, put_model

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

FIVE_LINES = f"""\
apiVersion: lmforge.dev/v1alpha1
kind: FineTune
metadata: {{name: chats}}
spec:
  {{model: {{uri: pvc://{MODELS}/{MODEL}}}, dataset: {{uri: pvc://chats/chats.csv}}}}
"""
FEW = {
    "steps": 10,
    "batch": {"global": 8, "micro": 8},
    "precision": "fp32",
    "sequenceLength": 128,
    "resources": {"cpu": "200m", "memory": "8Gi"},
}
METHODS: Mapping[str, Manifest] = {
    "full": {"optimizer": {"learningRate": 0.0001}},
    "qlora": {"optimizer": {"learningRate": 0.001}},
    "distill": {
        "optimizer": {"learningRate": 0.0005},
        "distill": {
            "teacher": {"uri": f"pvc://{MODELS}/{MODEL}"},
            "init": {"dropLayers": list(range(3, 30, 3))},
        },
    },
}
FALL = 0.4
"""Nats a token by which the evaluation loss has to fall, within these few steps."""
SAME = 0.002
"""Nats by which the loss may differ where two ranks have added up the gradients."""
EVERY = 4


def by(method: str, *, name: str = "", **spec: object) -> Manifest:
    """A few steps of this method on 40 rows, five batches; `spec` replaces top-level fields."""
    return {
        "apiVersion": "lmforge.dev/v1alpha1",
        "kind": "FineTune",
        "metadata": {"name": name or method},
        "spec": {
            "model": {"uri": f"pvc://{MODELS}/{MODEL}"},
            "dataset": {"uri": "pvc://chats/chats.csv", "split": {"evaluation": 0.17}},
            "method": method,
            **FEW,
            **METHODS[method],
            **spec,
        },
    }


@pytest.fixture(scope="module")
def ended(kube: Kube, paths: Paths, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Manifest]:
    """Name -> status of each at its end. The machine has two cores: two at a time."""
    put_model(kube, paths)
    table = corpus.conversations(paths, tmp_path_factory.mktemp("conversations") / "chats.csv")
    plugin(kube, "put", table.parent, "pvc://chats", "--create", "16Mi")

    def end_of(name: str) -> Manifest:
        if name == "chats":
            kube("apply", "--server-side", "-f", "-", stdin=FIVE_LINES)
        else:
            kube.apply(by(name))
        return kube.wait_phase(f"ft/{name}", "Succeeded", seconds=400)

    names = ("chats", *METHODS)
    with ThreadPoolExecutor(max_workers=2) as pool:
        statuses = dict(zip(names, pool.map(end_of, names), strict=True))
    print(kube("get", "ft", "-o", "wide"))
    return statuses


def fall(status: Manifest) -> float:
    evaluation = status["evaluation"]
    return float(evaluation["lossBefore"]) - float(evaluation["loss"])


def test_a_csv_of_questions_and_answers_needs_five_lines(ended: Mapping[str, Manifest]) -> None:
    assert len(FIVE_LINES.splitlines()) == 5
    status = ended["chats"]
    assert fall(status) > FALL
    assert status["derived"]["format"] == "chat"
    assert status["artifact"]["format"] == "HuggingFace"
    assert status["adapter"]["digest"]


@pytest.mark.parametrize("method", METHODS)
def test_the_evaluation_loss_falls_with_each_method(method: str, ended: Mapping[str, Manifest]) -> None:
    status = ended[method]
    assert fall(status) > FALL
    assert status["artifact"]["digest"]


def test_status_says_how_much_of_the_model_was_trained(ended: Mapping[str, Manifest]) -> None:
    share = {name: status["trainable"]["share"] for name, status in ended.items()}
    assert share["full"] == share["distill"] == "100%"
    assert share["chats"] == share["qlora"] == "3.5%"


def test_a_student_without_a_third_of_the_layers_is_smaller_than_its_teacher(ended: Mapping[str, Manifest]) -> None:
    student, teacher = (ended[name]["trainable"]["of"] for name in ("distill", "full"))
    assert student < 0.8 * teacher


def test_two_pods_learn_what_one_does_though_one_of_them_is_killed(
    kube: Kube, cluster: NativeCluster, ended: Mapping[str, Manifest]
) -> None:
    over_two = {"distributed": {"nodes": 2}, "batch": {"global": 8, "micro": 4}, "checkpoint": {"everySteps": EVERY}}
    kube.apply(by("full", name="pair", **over_two))
    kube.wait("ft/pair", lambda s: s.get("progress", {}).get("step", 0) > EVERY, what="steps", seconds=300)
    which = "lmforge.dev/name=pair,lmforge.dev/attempt=1,batch.kubernetes.io/job-completion-index=1"
    (pod,) = kube.items("pods", "-l", which)
    kill_container(cluster, kube, pod["metadata"]["name"])
    status = kube.wait_phase("ft/pair", "Succeeded", seconds=300)
    print(kube("get", "ft", "-o", "wide"))
    first, second = status["attempts"]
    assert pod["metadata"]["name"] in first["message"]
    assert second["startStep"] >= EVERY
    assert status["restarts"] == 1
    assert float(status["evaluation"]["loss"]) == pytest.approx(float(ended["full"]["evaluation"]["loss"]), abs=SAME)
