"""Each rule of an InferenceService, refused by a real API server with its sentence; and its scale subresource."""

import json
import re
from typing import Any

import pytest
from apiserver import ApiServer, Reply
from at_the_door import assert_points_at_the_field, messages
from part_examples import PODS, URIS
from service_rule_examples import REFUSED
from service_specs import ACCEPTED, GOOD_SERVICE
from specs import Refused, patched

from lmforge_api.base import API_VERSION
from lmforge_api.inferenceservice import InferenceServiceSpec, InferenceServiceStatus, Performance, ServedModelStatus
from lmforge_api.schema import structural

PATH = f"/apis/{API_VERSION}/namespaces/default/inferenceservices"


def manifest(spec: dict[str, Any], *, name: str = "chat") -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": "InferenceService", "metadata": {"name": name}, "spec": spec}


def dry_run(server: ApiServer, change: dict[str, Any]) -> Reply:
    return server.request("POST", f"{PATH}?dryRun=All&fieldValidation=Strict", manifest(patched(GOOD_SERVICE, change)))


@pytest.mark.integration
@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.name)
def test_a_bad_service_is_refused_with_a_sentence_that_points_at_the_field(api_server: ApiServer, row: Refused) -> None:
    reply = dry_run(api_server, row.change)
    assert_points_at_the_field(reply, row)


@pytest.mark.integration
@pytest.mark.parametrize("change", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_a_good_service_is_taken_and_filled_in_as_pydantic_does(api_server: ApiServer, change: dict[str, Any]) -> None:
    reply = dry_run(api_server, change)
    assert reply.ok, reply.message
    assert reply.body["spec"] == InferenceServiceSpec.model_validate(patched(GOOD_SERVICE, change)).wire()


def test_every_rule_of_a_service_has_a_row() -> None:
    sentences = [row.sentence for row in (*REFUSED, *PODS, *URIS)]
    for message in set(messages(structural(InferenceServiceSpec))):
        pattern = ".*".join(map(re.escape, message.split("%s")))
        assert any(re.fullmatch(pattern, said) or said in message for said in sentences), f"no row for: {message}"


@pytest.mark.integration
def test_kubectl_shows_and_scales_it(api_server: ApiServer) -> None:
    api_server.kubectl("create", "namespace", "scaled")
    api_server.kubectl("apply", "-n", "scaled", "-f", "-", stdin=json.dumps(manifest(GOOD_SERVICE)))
    status = InferenceServiceStatus(
        phase="Ready",
        ready="2/3",
        url="http://chat.scaled.svc/v1",
        model=ServedModelStatus(source="pvc://models/tiny", uri="pvc://models/tiny"),
        performance=Performance(tokens_per_second="1.2k"),
        selector="a=b",
    )
    patch = json.dumps({"status": status.wire()})
    api_server.kubectl("patch", "isvc", "chat", "-n", "scaled", "--subresource=status", "--type=merge", "-p", patch)
    header, row = api_server.kubectl("get", "isvc", "-n", "scaled").splitlines()
    assert header.split() == ["NAME", "PHASE", "URL", "READY", "MODEL", "ENGINE", "TOKENS/S", "AGE"]
    expected = ["chat", "Ready", "http://chat.scaled.svc/v1", "2/3", "pvc://models/tiny", "vllm", "1.2k"]
    assert row.split()[:-1] == expected
    api_server.kubectl("scale", "isvc", "chat", "-n", "scaled", "--replicas=3")
    assert api_server.kubectl("get", "isvc", "chat", "-n", "scaled", "-o", "jsonpath={.spec.replicas}") == "3"


@pytest.mark.integration
def test_kubectl_scale_is_told_why_an_autoscaled_service_is_not_its_to_scale(api_server: ApiServer) -> None:
    scaling = {"autoscaling": {"maxReplicas": 4}}
    assert api_server.request("POST", PATH, manifest({**GOOD_SERVICE, **scaling}, name="auto")).ok
    body = {"spec": {"replicas": 3}}
    reply = api_server.request("PATCH", f"{PATH}/auto/scale", body, content_type="merge-patch+json")
    assert "replicas and autoscaling can't both decide" in reply.message
