"""Which model a service gets: what is waited for, what doesn't fit, and where it comes from."""

from typing import Any

import pytest
from manifest_builders import ARTIFACT, SHAPE, found
from serving_builders import spec

from lmforge_api.inferenceservice import InferenceServiceStatus, ServedModelStatus
from lmforge_operator.kinds.inferenceservice.model import find_model


def test_a_finished_training_job_gives_its_artifact_with_its_digest() -> None:
    model = found({"status": {"phase": "Succeeded", "artifact": ARTIFACT}})
    assert (model.source, model.uri, model.digest) == ("trainingjob/tiny", "pvc://store/tiny", "sha256:aa")


def test_a_model_is_traced_back_to_the_text_through_all_that_it_was_made_from() -> None:
    text = {"name": "dataset", "source": "spec", "uri": "pvc://corpus/text", "digest": "sha256:cc"}
    base = {"name": "model", "source": "TrainingJob/base", "uri": "pvc://store/base", "digest": "sha256:bb"}
    jobs = {
        "tiny": {"status": {"phase": "Succeeded", "artifact": ARTIFACT, "inputs": [base]}},
        "base": {"status": {"inputs": [text, {**base, "source": "TrainingJob/tiny"}]}},  # a circle ends, too
    }
    asked = spec(model={"from": {"kind": "TrainingJob", "name": "tiny"}})
    model = find_model(asked, None, lambda kind, name: jobs.get(name), lambda claim: True)
    assert [(each.by, each.name, each.digest) for each in model.lineage] == [
        ("TrainingJob/tiny", "model", "sha256:bb"),
        ("TrainingJob/base", "dataset", "sha256:cc"),
        ("TrainingJob/base", "model", "sha256:bb"),
    ]


WAITING: dict[str, tuple[Any, str, str]] = {
    "no job": (None, "InputsNotReady", "waits for TrainingJob tiny: it does not exist in this namespace"),
    "a running job": (
        {"status": {"phase": "Running", "progress": {"percent": "40%"}}},
        "InputsNotReady", "waits for TrainingJob tiny: it is Running at 40%",
    ),
    "a lost claim": (
        {"status": {"phase": "Succeeded", "artifact": {**ARTIFACT, "uri": "pvc://missing/tiny"}}},
        "InputsNotReady",
        "waits for PersistentVolumeClaim missing: it does not exist in this namespace (create it, or correct the uri)",
    ),
    "a baseline": (
        {"status": {"phase": "Succeeded", "artifact": {**ARTIFACT, "format": "lmforge-lstm"}}},
        "WrongFormat",
        "engine vllm loads Hugging Face directories, and this model is in the format lmforge-lstm: serve a transformer "
        "(architecture llama or gpt2)",
    ),
    "a giant": (
        {"status": {"phase": "Succeeded", "artifact": {**ARTIFACT, "sizeBytes": 7 * 2**30}}},
        "NotEnoughMemory",
        "the model's files take 7 GiB and the KV cache 1 GiB, but resources.memory is 4Gi: raise it above their sum, "
        "or lower engineArgs.kvCache",
    ),
}  # fmt: skip

MISFITS: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "a long context": (
        {"engineArgs": {"maxModelLen": 4096}}, {}, "WrongShape",
        "engineArgs.maxModelLen is 4096, but the model's context is 2048 tokens: write at most 2048, or leave it out",
    ),
    "uneven heads": (
        {"parallelism": {"tensor": 4}, "resources": {"accelerator": "nvidia.com/gpu"}}, {}, "WrongShape",
        "parallelism.tensor is 4, which doesn't divide the model's 6 heads: write a number that does",
    ),
    "more stages than layers": (
        {"parallelism": {"pipeline": 6}, "resources": {"accelerator": "nvidia.com/gpu"}}, {}, "WrongShape",
        "parallelism.pipeline is 6, but the model has 4 layers: write at most that",
    ),
    "a cache for less than one request": (
        {"engineArgs": {"kvCache": 1}}, {"layers": 32, "kvHeads": 32, "headSize": 128, "contextLength": 4096},
        "NotEnoughMemory",
        "one request of 4096 tokens takes 2 GiB of KV cache, which has 1 GiB: raise engineArgs.kvCache to 2, or "
        "lower engineArgs.maxModelLen",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "other", "reason", "message"), MISFITS.values(), ids=MISFITS.keys())
def test_what_does_not_fit_the_models_shape_is_said_before_a_pod_starts(
    changes: dict[str, Any], other: dict[str, Any], reason: str, message: str
) -> None:
    artifact = {**ARTIFACT, "shape": {**SHAPE, **other}}
    model = found({"status": {"phase": "Succeeded", "artifact": artifact}}, **changes)
    assert (model.reason, model.waiting_for) == (reason, message)


def test_what_fits_the_models_shape_is_served() -> None:
    artifact = {**ARTIFACT, "shape": SHAPE}
    assert found({"status": {"phase": "Succeeded", "artifact": artifact}}, engineArgs={"maxModelLen": 2048}).uri


@pytest.mark.parametrize(("job", "reason", "message"), WAITING.values(), ids=WAITING.keys())
def test_what_can_not_be_served_is_said_before_a_pod_starts(job: Any, reason: str, message: str) -> None:
    model = found(job)
    assert (model.reason, model.waiting_for, model.uri) == (reason, message, "")


def test_a_pinned_model_is_served_on_when_what_made_it_is_gone() -> None:
    pinned = ServedModelStatus(source="trainingjob/tiny", uri="pvc://store/tiny", digest="sha256:aa")
    assert found(None, pinned=pinned).digest == "sha256:aa"
    other = pinned.model_copy(update={"source": "trainingjob/other"})
    assert found(None, pinned=other).waiting_for


def test_a_status_of_another_version_can_be_read() -> None:
    assert InferenceServiceStatus.model_validate({"phase": "Ready", "future": 1}).phase == "Ready"
