"""Which adapters a service should have, what its replicas mount for them, and what its status says of them."""

from dataclasses import replace
from typing import Any

import pytest
from serving_builders import NEW, OLD, START, pod, revision, serving, spec

from lmforge_api.inferenceservice_adapters import AdapterStatus
from lmforge_operator.manifests import Manifest
from lmforge_operator.serving.adapters.replica import ReplicaAdapters
from lmforge_operator.serving.adapters.wanted import Adapter, claims, find_adapters
from lmforge_operator.serving.decide import MOVING_SECONDS, decide
from lmforge_operator.serving.engines.vllm_adapters import ADAPTERS
from lmforge_operator.serving.service import Serving
from lmforge_operator.settings import Store

FROM_TONE = {"name": "tone", "from": {"kind": "FineTune", "name": "tone"}}
LEGAL_URI = {"name": "legal", "uri": "pvc://models/legal"}
DONE = {"status": {"phase": "Succeeded", "adapter": {"uri": "pvc://lmforge-store/tone", "digest": "sha256:aa"}}}
WHOLE = {"status": {"phase": "Succeeded", "artifact": {"uri": "pvc://lmforge-store/tone", "format": "HuggingFace"}}}
TONE = Adapter("tone", "finetune/tone", "pvc://lmforge-store/tone", "sha256:aa")
LEGAL = Adapter("legal", "pvc://models/legal", "pvc://models/legal")
PINNED = AdapterStatus(name="tone", source="finetune/tone", uri="pvc://lmforge-store/tone", digest="sha256:aa")


def found(adapter: Manifest, made: Manifest | None = None, *pinned: AdapterStatus) -> Adapter:
    """What becomes of one adapter, where FineTune tone is `made` and the claim `lost` isn't there."""
    (adapter_found,) = find_adapters(spec(adapters=[adapter]), pinned, lambda *_: made, lambda claim: claim != "lost")
    return adapter_found


def test_an_adapter_is_where_its_finetune_left_it_with_its_digest_or_at_its_uri() -> None:
    assert found(FROM_TONE, DONE) == TONE
    assert found(LEGAL_URI) == LEGAL
    assert LEGAL.path == "/mnt/pvc/models/legal"


WAITING: dict[str, tuple[Manifest, Manifest | None, str]] = {
    "no FineTune": (FROM_TONE, None, "waits for FineTune tone: it does not exist in this namespace"),
    "a running FineTune": (
        FROM_TONE, {"status": {"phase": "Running", "progress": {"percent": "40%"}}},
        "waits for FineTune tone: it is Running at 40%",
    ),
    "a FineTune of a whole model": (
        FROM_TONE, WHOLE,
        "waits for FineTune tone: it has trained a whole model and no adapter: name it in model.from, or a FineTune "
        "with method lora or qlora",
    ),
    "a lost claim": (
        {"name": "legal", "uri": "pvc://lost/legal"}, None,
        "waits for PersistentVolumeClaim lost: it does not exist in this namespace (create it, or correct the uri)",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("adapter", "made", "message"), WAITING.values(), ids=WAITING.keys())
def test_an_adapter_says_what_it_waits_for(adapter: Manifest, made: Manifest | None, message: str) -> None:
    assert found(adapter, made).waiting_for == message


def test_a_pinned_adapter_stays_when_its_finetune_is_gone() -> None:
    assert found(FROM_TONE, None, PINNED) == TONE


def test_the_former_weights_serve_until_another_finetune_is_done() -> None:
    former = PINNED.model_copy(update={"source": "finetune/former", "uri": "pvc://lmforge-store/former"})
    waits = found(FROM_TONE, None, former)
    assert (waits.source, waits.uri) == ("finetune/former", "pvc://lmforge-store/former")
    assert waits.waiting_for == "waits for FineTune tone: it does not exist in this namespace"
    assert found(FROM_TONE, DONE, former) == TONE
    lost = former.model_copy(update={"uri": "pvc://lost/former"})
    assert found(FROM_TONE, None, lost).uri == ""


SHARED = Store()
PRIVATE = Store(access_modes=["ReadWriteOnce"])
ON_STORE = {"name": "tone", "uri": "pvc://lmforge-store/tone"}
MOUNTS: dict[str, tuple[Manifest, Store, tuple[str, ...]]] = {
    "no adapters": ({}, SHARED, ()),
    "room for adapters": ({"engineArgs": {"lora": {}}}, SHARED, ("lmforge-store",)),
    "a store for one node only": ({"adapters": [LEGAL_URI]}, PRIVATE, ()),
    "a FineTune's": ({"adapters": [FROM_TONE]}, PRIVATE, ("lmforge-store",)),
    "one on the store": ({"adapters": [ON_STORE]}, PRIVATE, ("lmforge-store",)),
    "another claim": ({"adapters": [{**LEGAL_URI, "uri": "pvc://more/x"}]}, SHARED, ("lmforge-store", "more")),
    "a lost claim": ({"adapters": [{**LEGAL_URI, "uri": "pvc://lost/x"}]}, SHARED, ("lmforge-store",)),
    "a model on the store": ({"adapters": [FROM_TONE], "model": {"uri": "pvc://lmforge-store/m"}}, SHARED, ()),
}


@pytest.mark.parametrize(("changes", "store", "expected"), MOUNTS.values(), ids=MOUNTS.keys())
def test_replicas_mount_the_claims_that_adapters_may_lie_on(
    changes: Manifest, store: Store, expected: tuple[str, ...]
) -> None:
    def has_claim(claim: str) -> bool:
        return claim != "lost"

    asked = spec(**changes)
    adapters = find_adapters(asked, [], lambda *_: None, has_claim)
    assert claims(asked, adapters, has_claim, store, model_uri=asked.model.uri or "") == expected


FIRST, SECOND = pod(NEW, 0), pod(NEW, 1)
HAS = ReplicaAdapters().took(LEGAL)
REFUSED = ReplicaAdapters().refused(LEGAL, "pvc://models/legal: there is no adapter there: correct its uri", now=START)


def service(adapters: tuple[Adapter, ...], replicas: dict[str, ReplicaAdapters], **changes: Any) -> Serving:
    seen = serving(revision(NEW, FIRST, SECOND), spec=spec(replicas=2), **changes)
    return replace(seen, adapters=adapters, replica_adapters=replicas)


WORDS: dict[str, tuple[Adapter, dict[str, ReplicaAdapters], str, str, tuple[str, str]]] = {
    "on its way": (LEGAL, {FIRST.name: HAS}, "1/2", "", ("False", "Loading")),
    "everywhere": (LEGAL, {FIRST.name: HAS, SECOND.name: HAS}, "2/2", "", ("True", "Ready")),
    "nowhere": (
        LEGAL, {FIRST.name: REFUSED, SECOND.name: REFUSED}, "0/2",
        "Can't be loaded: pvc://models/legal: there is no adapter there: correct its uri.",
        ("False", "AdapterNotLoaded"),
    ),
    "not on every replica": (
        LEGAL, {FIRST.name: HAS, SECOND.name: REFUSED}, "1/2",
        "Can't be loaded (1 of 2 replicas): pvc://models/legal: there is no adapter there: correct its uri.",
        ("False", "AdapterNotLoaded"),
    ),
    "waited for, while its former weights serve": (
        replace(LEGAL, waiting_for="waits for FineTune legal: it is Running"), {FIRST.name: HAS}, "1/2",
        "Waits for FineTune legal: it is Running. The former weights are kept.", ("False", "AdapterNotLoaded"),
    ),
    "waited for": (
        Adapter("legal", "finetune/legal", waiting_for="waits for FineTune legal: it is Running"), {}, "0/2",
        "Waits for FineTune legal: it is Running.", ("False", "AdapterNotLoaded"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("adapter", "replicas", "loaded", "message", "condition"), WORDS.values(), ids=WORDS.keys())
def test_status_says_where_an_adapter_is_and_the_service_goes_on(
    adapter: Adapter, replicas: dict[str, ReplicaAdapters], loaded: str, message: str, condition: tuple[str, str]
) -> None:
    status = decide(service((adapter,), replicas)).status
    (told,) = status.adapters
    assert (told.name, told.loaded, told.message) == ("legal", loaded, message)
    (said,) = [each for each in status.conditions if each.type == "AdaptersReady"]
    assert (said.status, said.reason) == condition
    assert (status.phase, status.message) == ("Ready", "2 of 2 replicas are ready.")


def test_a_service_without_adapters_has_no_condition_about_them() -> None:
    status = decide(service((), {})).status
    assert status.adapters == []
    assert "AdaptersReady" not in [each.type for each in status.conditions]


def test_a_replica_of_the_former_revision_counts_as_one_that_lacks_the_adapter() -> None:
    seen = serving(revision(OLD, pod(OLD)), revision(NEW, FIRST), replica_adapters={FIRST.name: HAS})
    (told,) = decide(replace(seen, adapters=(LEGAL,))).status.adapters
    assert told.loaded == "1/2"


def test_while_adapters_are_on_their_way_the_service_is_looked_at_again_soon() -> None:
    assert decide(service((LEGAL,), {FIRST.name: HAS})).look_again == MOVING_SECONDS
    settled = decide(service((LEGAL,), {FIRST.name: HAS, SECOND.name: HAS})).look_again
    assert settled is not None
    assert settled > MOVING_SECONDS


def test_vllm_lists_adapters_as_models_with_a_parent() -> None:
    models = [{"id": "chat", "root": "/m", "parent": None}, {"id": "legal", "root": "/a", "parent": "chat"}]
    assert ADAPTERS.loaded({"data": models}) == {"legal": "/a"}


def test_vllm_replaces_an_adapter_only_after_the_new_weights_were_loaded_once() -> None:
    told = [(call.path.rsplit("/", 1)[1], call.body["lora_name"]) for call in ADAPTERS.replace("a", "/x")]
    load, unload = "load_lora_adapter", "unload_lora_adapter"
    assert told == [(load, "a@new"), (unload, "a"), (load, "a"), (unload, "a@new")]


_FAILED = "Call to add_lora method failed: Worker failed with error '{}', please check the stack trace above"
SAYINGS = {
    "no files": ("Loading lora a failed: No adapter found for <path>", "there is no adapter (adapter_config.json)"),
    "a high rank": (
        _FAILED.format("LoRA rank 64 is greater than max_lora_rank 16."),
        "its rank is 64: raise engineArgs.lora.maxRank",
    ),
    "another model's": (
        _FAILED.format("The size of tensor a (576) must match the size of tensor b (768)"),
        "it was made for another model",
    ),
    "a cut file": (
        _FAILED.format("Error while deserializing header: invalid header length"),
        "the engine can't use its files (Error while deserializing header: invalid header length): correct them",
    ),
    "anything else": ("out of cheese", "out of cheese"),
}  # fmt: skip


@pytest.mark.parametrize(("error", "told"), SAYINGS.values(), ids=SAYINGS.keys())
def test_what_vllm_says_of_an_adapter_becomes_what_to_do(error: str, told: str) -> None:
    assert ADAPTERS.explain(error).startswith(told)
