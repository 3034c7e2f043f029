"""Each rule of a TrainingJob, refused by a real API server with its sentence."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from apiserver import ApiServer, Reply
from at_the_door import assert_points_at_the_field, change, made, messages
from part_examples import INSIDE
from rule_examples import ACROSS
from specs import ALONE, GOOD, GPU, Refused, init, patched
from uri_examples import GOOD as GOOD_URIS

from e2e.cluster.errors import CommandFailed
from lmforge_api.base import API_VERSION
from lmforge_api.derive import derived
from lmforge_api.kinds import MAX_NAME_LENGTH
from lmforge_api.schema import structural
from lmforge_api.trainingjob import TrainingJobSpec

ALL = (*ACROSS, *INSIDE)
PATH = f"/apis/{API_VERSION}/namespaces/default/trainingjobs"

NAMES = (
    (
        "a" * (MAX_NAME_LENGTH + 1),
        f"metadata.name has {MAX_NAME_LENGTH + 1} characters: write at most {MAX_NAME_LENGTH}",
    ),
    ("7b-model", "metadata.name 7b-model becomes part of DNS names: start with a letter"),
    ("llama.7b", "metadata.name llama.7b becomes part of DNS names: start with a letter"),
)

ACCEPTED: dict[str, dict[str, Any]] = {
    "the smallest": {**ALONE, **init(layers=None, heads=None, hiddenSize=None, architecture=None)},
    "eight ranks in two pods": {},
    "eight accelerators in two pods": GPU,
    "megatron": {"engine": "megatron", **GPU, "precision": "fp16"},
    "ZeRO 3 with tensor parallelism": {"zero": {"stage": 3}, "parallelism": {"data": 4, "tensor": 2, "pipeline": 1}},
    "offload": {**GPU, "zero": {"stage": 1, "offload": {"optimizer": "cpu"}}},
    "grouped-query attention": init(kvHeads=2),
    "sinusoidal gpt2": init(architecture="gpt2", positionEncoding="sinusoidal", dropout=0.1),
    "an LSTM": {**init(architecture="lstm", dropout=0.2), "parallelism": {"data": 2, "tensor": 1, "pipeline": 1}},
    "an n-gram model": {**init(architecture="ngram", order=5), **ALONE},
    "elastic": {"elastic": {"minNodes": 1, "maxNodes": 4}},
    "from another object": {"model": {"init": None, "from": {"kind": "TrainingJob", "name": "other"}}},
    "from a Dataset": {"dataset": {"uri": None, "from": {"kind": "Dataset", "name": "corpus"}}},
    "null for what is left out": {"elastic": None},
    "a template": {
        "template": {
            "labels": {"example.org/team": "nlp", "app": "x"},
            "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}},
            "env": [{"name": "NCCL_DEBUG", "value": "INFO"}],
        }
    },
    "failure rules": {"failurePolicy": {"rules": [{"onExitCodes": [3], "action": "Fail"}]}},
}  # fmt: skip


def manifest(spec: dict[str, Any], *, name: str = "tiny") -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": "TrainingJob", "metadata": {"name": name}, "spec": spec}


def dry_run(server: ApiServer, body: dict[str, Any]) -> Reply:
    return server.request("POST", f"{PATH}?dryRun=All&fieldValidation=Strict", body)


@pytest.mark.integration
@pytest.mark.parametrize("row", ALL, ids=lambda row: row.name)
def test_a_bad_spec_is_refused_with_a_sentence_that_points_at_the_field(api_server: ApiServer, row: Refused) -> None:
    reply = dry_run(api_server, manifest(patched(GOOD, row.change)))
    assert_points_at_the_field(reply, row)


@pytest.mark.integration
@pytest.mark.parametrize(("name", "sentence"), NAMES)
def test_a_name_that_its_pods_can_not_carry_is_refused(api_server: ApiServer, name: str, sentence: str) -> None:
    assert sentence in dry_run(api_server, manifest(GOOD, name=name)).message


@pytest.mark.integration
def test_an_object_that_waits_for_itself_is_refused(api_server: ApiServer) -> None:
    spec = patched(GOOD, {"model": {"init": None, "from": {"kind": "TrainingJob", "name": "tiny"}}})
    assert "spec.model.from names this object itself" in dry_run(api_server, manifest(spec)).message


@pytest.mark.integration
def test_a_field_that_does_not_exist_is_refused(api_server: ApiServer) -> None:
    assert 'unknown field "spec.stepz"' in dry_run(api_server, manifest({**GOOD, "stepz": 3})).message


@pytest.mark.integration
@pytest.mark.parametrize("change", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_a_good_spec_is_taken_and_gives_what_operator_and_trainer_derive(
    api_server: ApiServer, change: dict[str, Any]
) -> None:
    reply = dry_run(api_server, manifest(patched(GOOD, change)))
    assert reply.ok, reply.message
    assert derived(TrainingJobSpec.model_validate(reply.body["spec"]))


@pytest.mark.integration
@pytest.mark.parametrize("uri", GOOD_URIS)
def test_a_good_uri_is_taken(api_server: ApiServer, uri: str) -> None:
    reply = dry_run(api_server, manifest(patched(GOOD, {"dataset": {"uri": uri}})))
    assert reply.ok, reply.message


def _other(field: str) -> dict[str, Any]:
    others: dict[str, Any] = {
        "model": {"init": {"layers": 4}},
        "dataset": {"uri": "pvc://corpus/other"},
        "sequenceLength": 256,
        "engine": "megatron",
        "parallelism": {"data": 4},
        "zero": {"stage": 0},
        "precision": "fp32",
        "batch": {"global": 16},
        "optimizer": {"learningRate": 0.1},
        "schedule": {"kind": "linear"},
        "steps": 500,
        "seed": 1,
        "evaluation": {"everySteps": 7},
        "nodes": 4,
        "processesPerNode": 4,
    }
    return {field: others[field]}


@pytest.fixture(scope="module")
def existing(api_server: ApiServer) -> Iterator[str]:
    with made(api_server, PATH, manifest(GOOD, name="immutable")) as path:
        yield path


@pytest.mark.integration
@pytest.mark.parametrize("field", TrainingJobSpec.immutable_fields)
def test_a_field_that_checkpoints_depend_on_can_not_change(api_server: ApiServer, existing: str, field: str) -> None:
    reply = change(api_server, existing, _other(field))
    sentence = (
        f"{field} can't change once the object exists: put it back, or create another object with the new {field}"
    )
    assert sentence in reply.message


@pytest.mark.integration
@pytest.mark.parametrize(
    "spec",
    [
        {"suspend": True},
        {"checkpoint": {"everySteps": 5}},
        {"elastic": {"minNodes": 1, "maxNodes": 4}},
        {"failurePolicy": {"maxRestarts": 9}},
        {"resources": {"memory": "8Gi"}},
        {"template": {"image": "registry.example.org/trainer:2"}},
        {"scheduling": {"queue": "research"}},
        {"processesPerNode": None, "seed": 0},
    ],
    ids="-".join,
)
def test_what_does_not_touch_the_numbers_can_change(api_server: ApiServer, existing: str, spec: dict[str, Any]) -> None:
    reply = change(api_server, existing, spec)
    assert reply.ok, reply.message


@pytest.mark.integration
def test_an_optional_field_can_neither_be_unset_nor_set_later(api_server: ApiServer, existing: str) -> None:
    name = "with-processes"
    assert api_server.request("POST", PATH, manifest({**GOOD, "processesPerNode": 4}, name=name)).ok
    assert "processesPerNode can't change" in change(api_server, f"{PATH}/{name}", {"processesPerNode": None}).message
    assert "processesPerNode can't change" in change(api_server, existing, {"processesPerNode": 4}).message


@pytest.mark.integration
def test_kubectl_apply_prints_the_sentence(api_server: ApiServer) -> None:
    with pytest.raises(CommandFailed, match=r"spec\.nodes: Invalid value: .* = 8 ranks, which nodes: 3 can't share"):
        api_server.kubectl("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(manifest({**GOOD, "nodes": 3})))


def test_every_rule_has_a_row() -> None:
    sentences = [row.sentence for row in ALL]
    for message in set(messages(structural(TrainingJobSpec))):
        if "can't change once the object exists" in message:
            continue  # each has its test above
        pattern = ".*".join(map(re.escape, message.split("%s")))
        covered = any(re.fullmatch(pattern, sentence) or sentence in message for sentence in sentences)
        assert covered, f"no row in rule_examples or part_examples for: {message}"
