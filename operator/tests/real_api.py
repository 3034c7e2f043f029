"""What integration tests of the operator share: clients of the real API server, and small manifests."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from apiserver import ApiServer

from lmforge_operator.kube.client import Kube
from lmforge_operator.kube.connection import connect
from lmforge_operator.kube.resources import FINE_TUNES, INFERENCE_SERVICES, TRAINING_JOBS
from lmforge_operator.kube.transport import Transport
from lmforge_operator.labels import ATTEMPT, OWNER_KIND, OWNER_NAME, OWNER_UID
from lmforge_operator.manifests import Manifest

_NUMBERS = count(1)


def new_namespace(api_server: ApiServer, prefix: str) -> str:
    """A namespace of the test's own."""
    name = f"{prefix}-{next(_NUMBERS)}"
    api_server.ensure_namespace(name)
    return name


@asynccontextmanager
async def open_kube(api_server: ApiServer, *, fence: Callable[[], None] = lambda: None) -> AsyncIterator[Kube]:
    """A client with an administrator's rights."""
    async with Transport(connect(str(api_server.kubeconfig))) as transport:
        yield Kube(transport, fence=fence)


async def eventually(
    holds: Callable[[], object] | Callable[[], Awaitable[object]], *, seconds: float = 20, pause: float = 0.02
) -> Any:
    """Waits until it holds, and gives what it gave. TimeoutError when it never does."""
    async with asyncio.timeout(seconds):
        while True:
            found = holds()
            if isinstance(found, Awaitable):
                found = await found
            if found:
                return found
            await asyncio.sleep(pause)


def training_job(namespace: str, name: str = "tiny", **spec: object) -> Manifest:
    """A TrainingJob whose inputs need nothing of the cluster."""
    model = {"init": {"architecture": "llama", "layers": 2, "hiddenSize": 64, "heads": 2}}
    return {
        "apiVersion": TRAINING_JOBS.api_version,
        "kind": TRAINING_JOBS.kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"model": model, "dataset": {"uri": "s3://corpus/text.jsonl"}, "steps": 10} | spec,
    }


def fine_tune(namespace: str, name: str = "helpdesk", **spec: object) -> Manifest:
    """A FineTune whose inputs need nothing of the cluster."""
    return {
        "apiVersion": FINE_TUNES.api_version,
        "kind": FINE_TUNES.kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"model": {"uri": "hf://org/base"}, "dataset": {"uri": "s3://corpus/chats.csv"}, "steps": 60} | spec,
    }


def inference_service(namespace: str, name: str = "chat", **spec: object) -> Manifest:
    """An InferenceService whose model needs nothing of the cluster."""
    return {
        "apiVersion": INFERENCE_SERVICES.api_version,
        "kind": INFERENCE_SERVICES.kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"model": {"uri": "file:///models/tiny"}} | spec,
    }


def config_map(namespace: str, name: str, *, owner: str = "", data: dict[str, str] | None = None) -> Manifest:
    labels = {OWNER_UID: owner, OWNER_KIND: "TrainingJob", OWNER_NAME: "tiny"} if owner else {}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "data": data or {},
    }


def pod(namespace: str, name: str, *, owner: Manifest | None = None, attempt: int = 1, account: str = "") -> Manifest:
    """A pod that no kubelet will ever run."""
    labels = {}
    if owner is not None:
        meta = owner["metadata"]
        labels = {OWNER_UID: meta["uid"], OWNER_KIND: owner["kind"], OWNER_NAME: meta["name"], ATTEMPT: str(attempt)}
    spec: Manifest = {"containers": [{"name": "workload", "image": "none"}], "automountServiceAccountToken": False}
    if account:
        spec["serviceAccountName"] = account
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": spec,
    }
