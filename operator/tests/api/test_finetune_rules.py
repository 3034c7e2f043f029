"""Each rule of a FineTune, refused by a real API server with its sentence; and what kubectl shows of one."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from apiserver import ApiServer, Reply
from at_the_door import assert_points_at_the_field, change, made, messages
from finetune_examples import CHANGEABLE, CHANGED, CHANGED_DISTRIBUTED, GOOD_FINETUNE, TAKEN
from finetune_refusals import REFUSED_FINETUNES
from finetune_row_refusals import REFUSED_ROWS
from part_examples import PODS, URIS
from specs import Refused, patched

from lmforge_api.base import API_VERSION
from lmforge_api.common import Ancestor, ArtifactStatus, Attempt, InputStatus, Progress
from lmforge_api.derive_finetune import derived
from lmforge_api.finetune import Distributed, FineTuneSpec, FineTuneStatus
from lmforge_api.finetune_results import BeforeAndAfter, Rows, Trainable, TrainedAdapter
from lmforge_api.schema import structural

PATH = f"/apis/{API_VERSION}/namespaces/default/finetunes"
REFUSED = (*REFUSED_FINETUNES, *REFUSED_ROWS)
IMMUTABLE = "{} can't change once the object exists: put it back, or create another object with the new {}"


def manifest(spec: dict[str, Any], *, name: str = "helpdesk") -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": "FineTune", "metadata": {"name": name}, "spec": spec}


def dry_run(server: ApiServer, change: dict[str, Any]) -> Reply:
    body = manifest(patched(GOOD_FINETUNE, change))
    return server.request("POST", f"{PATH}?dryRun=All&fieldValidation=Strict", body)


@pytest.mark.integration
@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.name)
def test_a_bad_finetune_is_refused_with_a_sentence_that_points_at_the_field(
    api_server: ApiServer, row: Refused
) -> None:
    reply = dry_run(api_server, row.change)
    assert_points_at_the_field(reply, row)


@pytest.mark.integration
@pytest.mark.parametrize("change", TAKEN.values(), ids=TAKEN.keys())
def test_a_good_finetune_is_taken_filled_in_as_pydantic_does_and_gives_what_is_derived(
    api_server: ApiServer, change: dict[str, Any]
) -> None:
    reply = dry_run(api_server, change)
    assert reply.ok, reply.message
    spec = FineTuneSpec.model_validate(patched(GOOD_FINETUNE, change))
    assert reply.body["spec"] == spec.wire()
    assert derived(spec)


@pytest.mark.integration
@pytest.mark.parametrize("field", ["model", "distill.teacher"])
def test_a_finetune_of_itself_is_refused(api_server: ApiServer, field: str) -> None:
    itself = {"from": {"kind": "FineTune", "name": "helpdesk"}}
    change = {"model": {"uri": None, **itself}}
    if field != "model":
        change = {"method": "distill", "distill": {"teacher": itself}}
    assert f"spec.{field}.from names this object itself" in dry_run(api_server, change).message


@pytest.fixture(scope="module")
def existing(api_server: ApiServer) -> Iterator[str]:
    with made(api_server, PATH, manifest(GOOD_FINETUNE, name="immutable")) as path:
        yield path


@pytest.mark.integration
@pytest.mark.parametrize("field", FineTuneSpec.immutable_fields)
def test_what_a_finetunes_checkpoints_depend_on_can_not_change(
    api_server: ApiServer, existing: str, field: str
) -> None:
    assert IMMUTABLE.format(field, field) in change(api_server, existing, {field: CHANGED[field]}).message


@pytest.mark.integration
@pytest.mark.parametrize("field", Distributed.immutable_fields)
def test_how_a_finetune_is_distributed_can_not_change(api_server: ApiServer, existing: str, field: str) -> None:
    changed = {"distributed": {field: CHANGED_DISTRIBUTED[field]}}
    assert IMMUTABLE.format(field, field) in change(api_server, existing, changed).message


@pytest.mark.integration
@pytest.mark.parametrize("spec", CHANGEABLE, ids="-".join)
def test_what_does_not_touch_a_finetunes_numbers_can_change(
    api_server: ApiServer, existing: str, spec: dict[str, Any]
) -> None:
    reply = change(api_server, existing, spec)
    assert reply.ok, reply.message


def test_every_rule_of_a_finetune_has_a_row() -> None:
    sentences = [row.sentence for row in (*REFUSED, *PODS, *URIS)]
    for message in set(messages(structural(FineTuneSpec))):
        if "can't change once the object exists" in message:
            continue  # each has its test above
        pattern = ".*".join(map(re.escape, message.split("%s")))
        assert any(re.fullmatch(pattern, said) or said in message for said in sentences), f"no row for: {message}"


STATUS = FineTuneStatus(
    observed_generation=1,
    phase="Running",
    reason="Training",
    message="Training on 1 pod.",
    progress=Progress(
        step=30, steps=60, percent="50%", display="30/60", loss="2.11", evaluation_loss="2.2041",
        tokens_per_second="210", eta="1m40s",
    ),
    attempts=[Attempt(number=1)],
    evaluation=BeforeAndAfter(loss_before="3.1012", loss="2.2041", perplexity_before="22.22", perplexity="9.06"),
    trainable=Trainable(parameters=921600, of=135436608, share="0.68%"),
    epoch="1.50",
    peak_memory="812 MiB",
    rows=Rows(read=100, train=90, evaluation=5, empty=5, examples=["chats.csv row 17: empty"]),
    adapter=TrainedAdapter(uri="pvc://store/a", digest="sha256:0", format="PEFT", rank=16, target_modules=["q_proj"]),
    artifact=ArtifactStatus(uri="pvc://store/helpdesk", digest="sha256:1", format="HuggingFace"),
    inputs=[InputStatus(name="model", source="TrainingJob/base", uri="pvc://store/base", digest="sha256:2")],
    lineage=[Ancestor(by="TrainingJob/base", name="dataset", uri="pvc://corpus/docs", digest="sha256:3")],
)  # fmt: skip


@pytest.mark.integration
def test_kubectl_shows_how_far_a_finetune_is_and_what_it_has_learned(api_server: ApiServer) -> None:
    api_server.kubectl("create", "namespace", "tuned")
    api_server.kubectl("apply", "-n", "tuned", "-f", "-", stdin=json.dumps(manifest(GOOD_FINETUNE)))
    patch = json.dumps({"status": STATUS.wire()})
    api_server.kubectl("patch", "ft", "helpdesk", "-n", "tuned", "--subresource=status", "--type=merge", "-p", patch)
    header, row = api_server.kubectl("get", "ft", "-n", "tuned").splitlines()
    columns = ["NAME", "PHASE", "PROGRESS", "STEP", "LOSS", "EVAL", "LOSS", "TOKENS/S", "ETA", "RESTARTS", "AGE"]
    assert header.split() == columns
    assert row.split()[:-1] == ["helpdesk", "Running", "50%", "30/60", "2.11", "2.2041", "210", "1m40s", "0"]
    header, row = api_server.kubectl("get", "ft", "-n", "tuned", "-o", "wide").splitlines()
    assert header.split()[11:] == [
        "REASON", "NODES", "LAST", "CHECKPOINT", "ARTIFACT", "METHOD", "BEFORE", "TRAINABLE", "MEMORY",
    ]  # fmt: skip
    assert row.split()[-6:] == ["pvc://store/helpdesk", "lora", "3.1012", "0.68%", "812", "MiB"]
    seen = json.loads(api_server.kubectl("get", "ft", "helpdesk", "-n", "tuned", "-o", "json"))["status"]
    assert seen == STATUS.wire()
    assert FineTuneStatus.model_validate(seen) == STATUS
