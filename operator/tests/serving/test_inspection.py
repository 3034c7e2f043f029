"""Before pods are started for a model on a claim, somebody looks at its files: what follows from what was found."""

from typing import Any

import pytest
from serving_builders import spec

from lmforge_api.inferenceservice import ServedModelStatus
from lmforge_api.inspection import Inspection
from lmforge_api.registry import LOGIN_PATH
from lmforge_operator.kinds.inferenceservice.model import find_model
from lmforge_operator.kinds.inferenceservice.observe import owner_of
from lmforge_operator.manifests import Manifest
from lmforge_operator.serving import inspection
from lmforge_operator.serving.inspection import Look
from lmforge_operator.serving.service import Model
from lmforge_operator.settings import Images, Settings

URI = "pvc://models/tiny"
OWNER = owner_of({"metadata": {"namespace": "default", "name": "chat", "uid": "uid-1"}})
SHAPE = {"layers": 4, "heads": 6, "kvHeads": 2, "headSize": 64, "contextLength": 2048}
FOUND = Inspection.model_validate({"format": "HuggingFace", "sizeBytes": 2**20, "shape": SHAPE})
BROKEN = Inspection(problem=f"{URI} has no config.json")


def model(look: Look, *, pinned: ServedModelStatus | None = None, uri: str = URI, **changes: Any) -> Model:
    asked = spec(model={"uri": uri}, **changes)
    return find_model(asked, pinned, lambda kind, name: None, lambda claim: claim != "missing", look)


SERVABLE: dict[str, tuple[Model, str]] = {
    "looked at": (model(Look(begun=True, found=FOUND)), URI),
    "looked at before": (model(Look(), pinned=ServedModelStatus(source=URI, uri=URI, format="HuggingFace")), URI),
    "of a hub, which nobody can look at": (model(Look(), uri="hf://some/model"), "hf://some/model"),
}


@pytest.mark.parametrize(("found", "uri"), SERVABLE.values(), ids=SERVABLE)
def test_a_model_that_needs_no_further_look_is_served(found: Model, uri: str) -> None:
    assert (found.uri, found.waiting_for, found.inspect) == (uri, "", False)


UNSERVABLE: dict[str, tuple[Model, str, str, bool]] = {
    "nobody has looked": (model(Look()), "Inspecting", f"the files of {URI} are being looked at", True),
    "somebody looks": (model(Look(begun=True)), "Inspecting", f"the files of {URI} are being looked at", False),
    "nobody can look": (
        model(Look(begun=True, holdup="no node has room")), "Inspecting",
        f"the files of {URI} can't be looked at: no node has room", False,
    ),
    "of no use": (model(Look(begun=True, found=BROKEN)), "UnreadableModel",
                 f"the model can't be loaded: {URI} has no config.json", False),
    "of no use before, and to be looked at again": (
        model(Look(), pinned=ServedModelStatus(source=URI, problem="it was broken")), "UnreadableModel",
        "the model can't be loaded: it was broken", True,
    ),
    "another one was of no use": (
        model(Look(), pinned=ServedModelStatus(source="pvc://models/other", problem="it was broken")), "Inspecting",
        f"the files of {URI} are being looked at", True,
    ),
    "its claim isn't there": (
        model(Look(), uri="pvc://missing/tiny"), "InputsNotReady",
        "waits for PersistentVolumeClaim missing: it does not exist in this namespace (create it, or correct the uri)",
        False,
    ),
    "another engine's format": (
        model(Look(begun=True, found=Inspection(format="ONNX"))), "WrongFormat",
        "engine vllm loads Hugging Face directories, and this model is in the format ONNX: write engine: onnxruntime",
        False,
    ),
    "a context longer than the model's": (
        model(Look(begun=True, found=FOUND), engineArgs={"maxModelLen": 4096}), "WrongShape",
        "engineArgs.maxModelLen is 4096, but the model's context is 2048 tokens: write at most 2048, or leave it out",
        False,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("found", "reason", "message", "looks"), UNSERVABLE.values(), ids=UNSERVABLE)
def test_what_keeps_a_model_from_being_served_is_said(found: Model, reason: str, message: str, looks: bool) -> None:
    assert (found.reason, found.waiting_for, found.inspect) == (reason, message, looks)
    assert found.uri == ""


def test_what_was_found_is_kept_so_that_nobody_has_to_look_again() -> None:
    found = model(Look(begun=True, found=FOUND))
    assert (found.format, found.size, found.shape) == ("HuggingFace", 2**20, FOUND.shape)


NAME = OWNER.inspection(URI)


def pod(name: str = NAME, **state: Any) -> Manifest:
    labels = {"lmforge.dev/role": "inspector", "lmforge.dev/revision": name}
    return {"metadata": {"name": "p", "labels": labels}, "status": {"containerStatuses": [{"state": state}]}}


def ended(code: int, message: str) -> Manifest:
    return {"terminated": {"exitCode": code, "message": message, "reason": "Error"}}


JOB = {"metadata": {"name": NAME}}
LOOKS: dict[str, tuple[list[Manifest], list[Manifest], Look]] = {
    "no job": ([], [pod(**ended(0, '{"format": "GGUF"}'))], Look()),
    "no pod": ([JOB], [], Look(begun=True)),
    "a running pod": ([JOB], [pod(running={})], Look(begun=True)),
    "the facts": ([JOB], [pod(**ended(0, '{"format": "GGUF"}'))], Look(begun=True, found=Inspection(format="GGUF"))),
    "another model's facts": ([JOB], [pod("other", **ended(0, '{"format": "GGUF"}'))], Look(begun=True)),
    "a crash, then the facts": (
        [JOB], [pod(**ended(1, "x")), pod(**ended(0, '{"format": "GGUF"}'))],
        Look(begun=True, found=Inspection(format="GGUF"), holdup="pod p ended with exit code 1: x"),
    ),
    "a crash": ([JOB], [pod(**ended(1, "x"))], Look(begun=True, holdup="pod p ended with exit code 1: x")),
    "an image that isn't there": (
        [JOB], [pod(waiting={"reason": "ErrImagePull", "message": "not found"})],
        Look(begun=True, holdup="1 of 1 pods can't pull the image: not found. Correct template.image (or the chart's "
                                "images), or name template.imagePullSecrets"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("jobs", "pods", "expected"), LOOKS.values(), ids=LOOKS)
def test_how_far_looking_is_can_be_read_from_the_job_and_its_pods(
    jobs: list[Manifest], pods: list[Manifest], expected: Look
) -> None:
    assert inspection.read(NAME, jobs=jobs, made=pods) == expected


SECRET = {"envFrom": ["hub-token"]}
SETTINGS = Settings(images=Images(serve="serve:1"))


def test_whoever_looks_may_do_nothing_but_read_the_claim() -> None:
    job = inspection.job(OWNER, spec(template=SECRET), SETTINGS)
    pod_spec = job["spec"]["template"]["spec"]
    (container,) = pod_spec["containers"]
    assert container["command"][-4:] == ["--path", "/mnt/pvc/models/tiny", "--name", URI]
    assert container["volumeMounts"][0] == {"name": "input-0", "mountPath": "/mnt/pvc/models", "readOnly": True}
    assert "envFrom" not in container
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert pod_spec["automountServiceAccountToken"] is False
    assert pod_spec["securityContext"]["runAsNonRoot"]
    assert job["spec"]["ttlSecondsAfterFinished"] > 0


CACHED = {"cache": {"claim": "models"}, "model": {"uri": "s3://bucket/team/tiny"}}
PLACES: dict[str, tuple[str, str]] = {
    "a hub's model": ("hf://org/tiny", "tiny"),
    "a hub's model at a revision": ("hf://org/tiny@v2", "tiny"),
    "a registry's artifact by its tag": ("oci://registry.example.org/team/tiny:1", "tiny"),
    "a bucket's directory": ("s3://bucket/team/tiny/", "tiny"),
    "a file of the web": ("https://example.org/tiny.gguf", "tiny.gguf"),
}


@pytest.mark.parametrize(("uri", "name"), PLACES.values(), ids=PLACES)
def test_a_cached_model_lies_under_a_name_of_its_own(uri: str, name: str) -> None:
    found = inspection.place(spec(model={"uri": uri}, cache={"claim": "models"}))
    assert found.startswith("pvc://models/lmforge-models/")
    assert found.endswith(f"/{name}")


def test_models_of_the_same_name_do_not_get_in_each_others_way() -> None:
    places = {inspection.place(spec(model={"uri": uri}, cache={"claim": "models"})) for uri, _ in PLACES.values()}
    assert len(places) == len(PLACES)


def test_a_cached_model_is_brought_first_and_then_served_from_the_claim() -> None:
    assert model(Look(), uri="s3://bucket/team/tiny", cache=CACHED["cache"]).inspect
    coming = model(Look(begun=True), uri="s3://bucket/team/tiny", cache=CACHED["cache"])
    assert coming.waiting_for == "the files of s3://bucket/team/tiny are being brought to claim models"
    there = model(Look(begun=True, found=FOUND), uri="s3://bucket/team/tiny", cache=CACHED["cache"])
    assert (there.source, there.uri) == ("s3://bucket/team/tiny", inspection.place(spec(**CACHED)))
    lost = model(Look(), uri="s3://bucket/team/tiny", cache={"claim": "missing"})
    assert (lost.reason, lost.inspect) == ("InputsNotReady", False)


def test_whoever_fetches_may_write_to_the_cache_and_has_the_users_secrets() -> None:
    job = inspection.job(OWNER, spec(template=SECRET, **CACHED), SETTINGS)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["command"][:5] == ["python", "-m", "lmforge_workloads.serve.fetch", "--path",
                                        inspection.place(spec(**CACHED)).replace("pvc://", "/mnt/pvc/")]  # fmt: skip
    assert container["command"][5:] == ["--uri", "s3://bucket/team/tiny"]
    assert container["volumeMounts"][0]["readOnly"] is False
    assert container["envFrom"] == [{"secretRef": {"name": "hub-token"}}]


def test_whoever_fetches_from_a_registry_has_its_login_mounted() -> None:
    registry = {"secret": "registry-login", "insecure": True}
    asked = spec(model={"uri": "oci://r.example.org/tiny:1", "registry": registry}, cache={"claim": "models"})
    pod_spec = inspection.job(OWNER, asked, SETTINGS)["spec"]["template"]["spec"]
    (container,) = pod_spec["containers"]
    assert container["command"][-3:] == ["--secret", "registry-login", "--insecure"]
    assert {"name": "registry", "mountPath": LOGIN_PATH, "readOnly": True} in container["volumeMounts"]
    (volume,) = [each for each in pod_spec["volumes"] if each["name"] == "registry"]
    assert (volume["secret"]["secretName"], volume["secret"]["optional"]) == ("registry-login", True)
