"""Children of a service, and its model as it is found, in a few words."""

from typing import Any

from serving_builders import START, spec

from lmforge_api.inferenceservice import ServedModelStatus
from lmforge_operator.kinds.inferenceservice.desired import Desired
from lmforge_operator.kinds.inferenceservice.model import find_model
from lmforge_operator.kinds.inferenceservice.observe import Children, observe
from lmforge_operator.manifests import Manifest
from lmforge_operator.serving import inspection
from lmforge_operator.serving.memory import Memory
from lmforge_operator.settings import Images, Reports, Settings

SETTINGS = Settings(
    reports=Reports(service_url="https://reports:8443"),
    images=Images(vllm="vllm:1", vllm_cuda="vllm-cuda:1", pull_secrets=["r"]),
)


ARTIFACT = {"uri": "pvc://store/tiny", "digest": "sha256:aa", "sizeBytes": 2**30, "format": "HuggingFace"}
SHAPE = {"layers": 4, "heads": 6, "kvHeads": 2, "headSize": 64, "contextLength": 2048}


def desired(*, settings: Settings = SETTINGS, **changes: Any) -> Desired:
    """The children of a service with this spec, whose model was looked at."""
    asked = {"model": {"uri": "pvc://models/tiny"}, **changes}
    model = asked["model"]["uri"]
    form = {"llamacpp": "GGUF", "onnxruntime": "ONNX"}.get(changes.get("engine", ""), "HuggingFace")
    manifest = {
        "metadata": {"namespace": "default", "name": "chat", "uid": "uid-1"},
        "spec": asked,
        "status": {"model": {"source": model, "uri": inspection.place(spec(**asked)), "format": form}},
    }
    nothing = Children(deployments=[], groups=[], jobs=[], pods=[], service=None)
    service = observe(
        manifest,
        children=nothing,
        lookup=lambda kind, name: None,
        has_claim=lambda claim: True,
        memory=Memory(),
        settings=settings,
        now=START,
    )
    return Desired(service, settings, reports_ca="CA")


def engine(**changes: Any) -> Manifest:
    (container,) = desired(**changes).revision(replicas=1)["spec"]["template"]["spec"]["containers"]
    found: Manifest = container
    return found


def command(**changes: Any) -> str:
    return " ".join(engine(**changes)["command"])


def variables(**changes: Any) -> dict[str, str]:
    return {each["name"]: each["value"] for each in engine(**changes)["env"]}


def found(job: Manifest | None, *, pinned: ServedModelStatus | None = None, **changes: Any) -> Any:
    asked = spec(model={"from": {"kind": "TrainingJob", "name": "tiny"}}, **changes)
    return find_model(asked, pinned, lambda kind, name: job, lambda claim: claim != "missing")
