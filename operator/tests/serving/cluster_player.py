"""Plays the Deployment controller and the kubelets on a real API server, for services' pods, as a test tells it to."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

from real_api import eventually

from lmforge_api.inspection import Inspection
from lmforge_operator.errors import NotFound
from lmforge_operator.kube.client import Kube
from lmforge_operator.kube.resources import DEPLOYMENTS, INFERENCE_SERVICES, JOBS, PODS
from lmforge_operator.labels import REVISION, ROLE, Role
from lmforge_operator.manifests import Manifest

DEPLOYMENT = "example.org/deployment"
IDENTITY = {"serviceAccountName": "default", "automountServiceAccountToken": False}


class ClusterPlayer:
    """One namespace's Deployments and pods. `play` once brings pods there; a pod gets ready when it is told to.

    Whoever looks at a model finds what `files` says of it, or else a Hugging Face directory.
    """

    def __init__(self, kube: Kube, namespace: str, *, files: dict[str, Inspection] | None = None) -> None:
        self.kube = kube
        self.namespace = namespace
        self.files = files or {}
        self._made = 0

    async def play(self) -> None:
        """Until cancelled."""
        while True:
            for deployment in await self._list(DEPLOYMENTS):
                await self._bring_there(deployment)
            for job in await self._list(JOBS):
                if job["metadata"]["labels"].get(ROLE) == Role.INSPECTOR:
                    await self._look(job)
            await asyncio.sleep(0.1)

    async def _look(self, job: Manifest) -> None:
        """A pod that looks at a model and says what it found."""
        command = job["spec"]["template"]["spec"]["containers"][0]["command"]
        found = self.files.get(command[-1], Inspection(format="HuggingFace", size_bytes=2**20))
        await self._end(job, found.wire())

    async def _end(self, job: Manifest, words: Manifest) -> None:
        """Its first pod ends well, with these last words."""
        name, template = f"{job['metadata']['name']}-0", job["spec"]["template"]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": self.namespace, "labels": template["metadata"]["labels"]},
            "spec": template["spec"] | IDENTITY,
        }
        if await self.kube.create(PODS, pod) is None:
            return
        ended = {"terminated": {"exitCode": 0, "reason": "Completed", "message": json.dumps(words)}}
        status = {"phase": "Succeeded", "containerStatuses": [_container(ended, ready=False)]}
        await self._status(PODS, name, status)

    async def finish(self, name: str, words: Manifest) -> None:
        """The run's Job ends well, and its pod leaves these words."""

        async def there() -> Manifest | None:
            return await self.kube.get(JOBS, self.namespace, name)

        await self._end(await eventually(there, seconds=30), words)
        now = _now()
        met = {"type": "SuccessCriteriaMet", "status": "True", "lastTransitionTime": now}
        status = {
            "startTime": now,
            "completionTime": now,
            "succeeded": 1,
            "completedIndexes": "0",
            "uncountedTerminatedPods": {},
            "conditions": [met, met | {"type": "Complete"}],
        }
        await self._status(JOBS, name, status)

    async def _bring_there(self, deployment: Manifest) -> None:
        meta, spec = deployment["metadata"], deployment["spec"]
        pods = await self.pods_of(meta["name"])
        for pod in pods[spec["replicas"] :]:
            await self.kube.delete(PODS, self.namespace, pod["metadata"]["name"], grace_seconds=0)
        for _ in range(spec["replicas"] - len(pods)):
            self._made += 1
            made = await self.kube.create(PODS, self._pod(deployment, f"{meta['name']}-{self._made}"))
            if made is not None and meta["labels"][ROLE] != "engine":
                await self.ready(made["metadata"]["name"])
        available = sum(_is_ready(pod) for pod in pods[: spec["replicas"]])
        if (deployment.get("status") or {}).get("availableReplicas", 0) != available:
            status = {"availableReplicas": available, "replicas": available, "readyReplicas": available}
            await self._status(DEPLOYMENTS, meta["name"], status)

    async def pods_of(self, deployment: str) -> list[Manifest]:
        """Its pods, ready ones first, as the real controller would keep them."""
        owned = [
            pod
            for pod in await self._list(PODS)
            if pod["metadata"].get("annotations", {}).get(DEPLOYMENT) == deployment
        ]
        return sorted(owned, key=lambda pod: (not _is_ready(pod), pod["metadata"]["name"]))

    async def engines(self, revision: str) -> list[Manifest]:
        """The pods of a revision that run the engine."""
        wanted = {REVISION: revision, ROLE: "engine"}
        return [pod for pod in await self._list(PODS) if pod["metadata"]["labels"].items() >= wanted.items()]

    async def ready(self, pod: str, *, address: str = "127.0.0.1") -> None:
        """The pod's container passes its probes."""
        now = _now()
        await self._status(
            PODS,
            pod,
            {
                "phase": "Running",
                "podIP": address,
                "podIPs": [{"ip": address}],
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}],
                "containerStatuses": [_container({"running": {"startedAt": now}}, ready=True)],
            },
        )

    async def crash(self, pod: str, *, times: int, code: int, reason: str = "Error", words: str = "") -> None:
        """The pod's container has ended so many times and waits for its next try."""
        ended = {"terminated": {"exitCode": code, "reason": reason, "message": words}}
        waits = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
        status = _container(waits, ready=False) | {"restartCount": times, "lastState": ended}
        await self._status(PODS, pod, {"phase": "Running", "containerStatuses": [status]})

    async def all_ready(self, revision: str, count: int) -> None:
        """Waits for so many pods of the revision and has them get ready."""

        async def there() -> list[Manifest] | None:
            found = await self.engines(revision)
            return found if len(found) == count else None

        for pod in await eventually(there, seconds=30):
            await self.ready(pod["metadata"]["name"])

    async def service(self, name: str = "chat") -> Manifest:
        """The InferenceService as it is now."""
        found = await self.kube.get(INFERENCE_SERVICES, self.namespace, name)
        assert found is not None
        return found

    async def change(self, name: str = "chat", **spec: Any) -> None:
        """Changes fields of its spec."""
        await self.kube.merge(INFERENCE_SERVICES, self.namespace, name, {"spec": spec})

    async def until(self, name: str = "chat", **status: Any) -> Manifest:
        """Waits until its status has these values (camelCase, `a__b` for a.b), and gives the status."""
        last: Manifest = {}

        async def reached() -> Manifest | None:
            nonlocal last
            last = (await self.service(name)).get("status") or {}
            return last if all(_at(last, path) == value for path, value in status.items()) else None

        try:
            found: Manifest = await eventually(reached, seconds=30, pause=0.05)
        except TimeoutError:
            raise AssertionError(f"status never had {status}: {last}") from None
        return found

    async def deployments(self) -> dict[str, int]:
        """Names and wanted replicas of the engines' Deployments."""
        return {
            each["metadata"]["name"]: each["spec"]["replicas"]
            for each in await self._list(DEPLOYMENTS)
            if each["metadata"]["labels"][ROLE] == "engine"
        }

    async def _list(self, resource: Any) -> list[Manifest]:
        return [item async for page in self.kube.pages(resource, namespace=self.namespace) for item in page.items]

    async def _status(self, resource: Any, name: str, status: Manifest) -> None:
        path = resource.path(self.namespace, name, "status")
        try:
            await self.kube.transport.send(
                "PATCH", path, body={"status": status}, content_type="application/merge-patch+json"
            )
        except NotFound:
            return

    def _pod(self, deployment: Manifest, name: str) -> Manifest:
        template, owner = deployment["spec"]["template"], deployment["metadata"]["name"]
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "labels": template["metadata"]["labels"],
                "annotations": (template["metadata"].get("annotations") or {}) | {DEPLOYMENT: owner},
            },
            "spec": template["spec"] | IDENTITY,
        }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _container(state: Manifest, *, ready: bool) -> Manifest:
    return {"name": "engine", "image": "x", "imageID": "", "restartCount": 0, "ready": ready, "state": state}


def _is_ready(pod: Manifest) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _at(status: Manifest, path: str) -> Any:
    value: Any = status
    for part in path.split("__"):
        value = (value or {}).get(part)
    return value
