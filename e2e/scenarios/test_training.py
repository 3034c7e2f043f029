"""As the one who trains I apply a few lines of YAML, and real text becomes a model that anybody can load."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from e2e.demo.__main__ import generate
from e2e.jobs import Run, assert_nothing_lost_or_doubled, in_store, training_job
from e2e.lmforge import Kube, Manifest, plugin

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]

BOUND = 3.32
"""Evaluation loss, in nats a token, that the transformer has to reach."""
ORDER = 3
"""The n-gram model that does not reach it looks at so many tokens. (TrainingJob's default; smoothed by Kneser-Ney.)"""

TEXT = {"uri": "pvc://corpus/python-docs", "tokenizer": {"train": {"type": "BPE", "vocabSize": 2048}}}
COMMON: Mapping[str, object] = {
    "dataset": TEXT,
    "sequenceLength": 128,
    "precision": "fp32",
    "evaluation": {"everySteps": 400, "samples": 64},
}
LLAMA = {
    **COMMON,
    "model": {"init": {"architecture": "llama", "layers": 2, "hiddenSize": 128, "heads": 4}},
    "parallelism": {"data": 2, "tensor": 2, "pipeline": 2},
    "nodes": 2,
    "batch": {"global": 8, "micro": 4},
    "optimizer": {"learningRate": 0.006},
    "schedule": {"warmupSteps": 40},
    "steps": 1200,
    "checkpoint": {"everySteps": 200},
    "resources": {"cpu": "500m", "memory": "6Gi"},
}
NGRAM = {
    **COMMON,
    "model": {"init": {"architecture": "ngram", "order": ORDER}},
    "steps": 1,
    "resources": {"cpu": "100m", "memory": "2Gi", "sharedMemory": "64Mi"},
}
GOES_ON = {
    **COMMON,
    "dataset": {"uri": "pvc://corpus/python-docs"},
    "model": {"from": {"kind": "TrainingJob", "name": "main"}},
    "batch": {"global": 8, "micro": 8},
    "optimizer": {"learningRate": 0.0003},
    "steps": 20,
    "checkpoint": {"everySteps": 20},
    "resources": {"cpu": "250m", "memory": "3Gi"},
}


@pytest.fixture(scope="module")
def main_job(kube: Kube) -> tuple[Run, Manifest]:
    """The main job, to its end; beside it one that is to go on from it, applied at the same time."""
    kube.apply(training_job("main", LLAMA), training_job("goes-on", GOES_ON), training_job("ngram", NGRAM))
    kube.wait("tj/goes-on", waits_for_main, what="its message that it waits for main", seconds=10)
    run = Run(kube, "main")
    return run, run.wait_succeeded(seconds=1200)


def waits_for_main(status: Manifest) -> bool:
    """Whether status says what it waits for."""
    return status.get("phase") == "Pending" and "Waits for TrainingJob main" in status.get("message", "")


@pytest.fixture(scope="module")
def artifact(main_job: tuple[Run, Manifest], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the main job left, copied here by the plugin."""
    run, _ = main_job
    folder = tmp_path_factory.mktemp("artifact")
    plugin(run.kube, "get", run.reference, folder)
    return folder


def test_eight_ranks_in_two_pods_on_two_nodes_reach_a_loss_that_an_ngram_model_does_not(
    main_job: tuple[Run, Manifest],
) -> None:
    run, status = main_job
    pods = run.pods(attempt=1)
    assert {pod["spec"]["nodeName"] for pod in pods} == {"node-1", "node-2"}
    assert status["derived"]["worldSize"] == "8"
    assert status["restarts"] == 0
    assert_nothing_lost_or_doubled(run, status)
    ngram = Run(run.kube, "ngram").wait_succeeded()
    losses = [float(each["progress"]["evaluationLoss"]) for each in (status, ngram)]
    print(f"evaluation loss: transformer {losses[0]}, {ORDER}-gram {losses[1]}, bound {BOUND}")
    assert losses[0] < BOUND < losses[1]


def test_every_column_of_kubectl_get_says_something(main_job: tuple[Run, Manifest]) -> None:
    run, _ = main_job
    head, line = run.kube("get", "tj", "main", "-o", "wide").splitlines()
    columns = {name: line[at:end].strip() for name, at, end in _columns(head)}
    assert columns.pop("ETA") == "", "there is nothing left to wait for"
    assert all(columns.values()), columns
    assert (columns["PHASE"], columns["PROGRESS"], columns["STEP"]) == ("Succeeded", "100%", "1200/1200")
    assert columns["LAST CHECKPOINT"] == "1200"
    assert "main" in run.kube("get", "lmforge", "-o", "name")


def _columns(head: str) -> list[tuple[str, int, int]]:
    """Name, start and end of each column: they are set apart by three spaces."""
    starts = [at for at in range(len(head)) if head[at] != " " and (at == 0 or head[at - 2 : at] == "  ")]
    ends = [*starts[1:], 10_000]
    return [(head[at:end].strip(), at, end) for at, end in zip(starts, ends, strict=True)]


def test_transformers_load_the_artifact_and_generate(artifact: Path) -> None:
    text = generate(artifact, "The function returns", tokens=40)
    said = text.removeprefix("The function returns").strip()
    print(said)
    assert len(said.split()) >= 5


def test_the_artifact_is_what_status_and_manifest_say(main_job: tuple[Run, Manifest], artifact: Path) -> None:
    _, status = main_job
    manifest = json.loads((artifact / "manifest.json").read_text())
    canonical = json.dumps(manifest["files"], sort_keys=True, separators=(",", ":"))
    assert status["artifact"]["digest"] == "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
    for name, entry in manifest["files"].items():
        assert hashlib.sha256((artifact / name).read_bytes()).hexdigest() == entry["sha256"]
    assert status["artifact"]["sizeBytes"] == sum(entry["size"] for entry in manifest["files"].values())


def test_what_it_was_made_from_is_pinned_and_can_be_read_back(main_job: tuple[Run, Manifest], artifact: Path) -> None:
    _, status = main_job
    pinned = {each["name"]: each["digest"] for each in status["inputs"]}
    assert set(pinned) == {"dataset", "tokenizer"}
    assert all(digest.startswith("sha256:") for digest in pinned.values())
    lineage = json.loads((artifact / "training.json").read_text())
    assert {each["name"]: each["digest"] for each in lineage["inputs"]} == pinned
    assert lineage["spec"]["dataset"]["uri"] == TEXT["uri"]


def test_a_run_that_starts_from_another_waited_for_it_and_goes_on_from_it(main_job: tuple[Run, Manifest]) -> None:
    run, main = main_job
    status = Run(run.kube, "goes-on").wait_succeeded()
    pinned = {each["name"]: each["digest"] for each in status["inputs"]}
    assert pinned["model"] == main["artifact"]["digest"]
    first = Run(run.kube, "goes-on").lines("attempts/0001/metrics.jsonl")[1]
    assert first["loss"] < float(main["progress"]["evaluationLoss"]) + 0.5, "it starts with what main has learnt"


def test_nothing_but_whole_checkpoints_is_left_in_the_store(main_job: tuple[Run, Manifest]) -> None:
    run, _ = main_job
    listed = in_store(run.kube, f"ls -A {run.store}/checkpoints {run.store}").split()
    assert not [name for name in listed if name.startswith(".")]
    assert [name for name in listed if name.startswith("step-")] == ["step-00001000", "step-00001200"]
