"""Models that are kept on the nodes: a container that runs before the engine brings its model to the node's folder.

Each namespace has its models to itself: what one fetched, with its own keys, no other one reads or replaces. The engine
sees its own model, and can't write to it. Pure.
"""

from lmforge_api.inferenceservice import InferenceServiceSpec
from lmforge_operator.labels import FETCHER
from lmforge_operator.manifests import Manifest
from lmforge_operator.pods import spec as pods
from lmforge_operator.serving.names import Owner, digest
from lmforge_operator.settings import Settings

MOUNT = "/mnt/node-cache"
_VOLUME = "node-cache"


def wanted(spec: InferenceServiceSpec) -> bool:
    return spec.cache is not None and spec.cache.node_local


def place(uri: str, name: str) -> str:
    """Where the engine finds the model."""
    return f"file://{MOUNT}/{digest(uri)}/{name}"


def holds(uri: str) -> bool:
    return uri.startswith(f"file://{MOUNT}/")


def fetcher(owner: Owner, spec: InferenceServiceSpec, settings: Settings, *, place: str) -> Manifest:
    """The container that brings the model to the node, or finds it there. It has what the user gives to pods: a hub's
    token, a bucket's keys."""
    path = place.removeprefix(f"file://{MOUNT}/")
    program = ["python", "-m", "lmforge_workloads.serve.node_cache", "--uri", spec.model.uri or ""]
    container: Manifest = {
        "name": FETCHER,
        "image": settings.images.serve,
        "imagePullPolicy": settings.images.pull_policy,
        "command": [*program, "--path", f"{MOUNT}/{owner.namespace}/{path}", "--folder", settings.node_cache.path],
        "resources": pods.FETCHING,
        "securityContext": pods.container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": _VOLUME, "mountPath": MOUNT}, {"name": "tmp", "mountPath": "/tmp"}],
    }
    return container | pods.environment(spec.template)


def mount(owner: Owner, place: str) -> Manifest:
    """The model's own directory, for the engine: the fetcher has made it before kubelet looks for it."""
    directory = place.removeprefix(f"file://{MOUNT}/").partition("/")[0]
    return {
        "name": _VOLUME,
        "mountPath": f"{MOUNT}/{directory}",
        "subPath": f"{owner.namespace}/{directory}",
        "readOnly": True,
    }


def volume(settings: Settings) -> Manifest:
    """One that isn't there kubelet makes, for root: the fetcher then says what to do, which kubelet wouldn't."""
    return {"name": _VOLUME, "hostPath": {"path": settings.node_cache.path, "type": "DirectoryOrCreate"}}
