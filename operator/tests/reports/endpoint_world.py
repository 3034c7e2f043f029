"""The reports' endpoint over TLS, and pods with tokens that a real API server made for them."""

import ssl
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
from aiohttp import web
from apiserver import ApiServer
from real_api import inference_service, new_namespace, pod, training_job

from lmforge_operator.kube.client import Kube
from lmforge_operator.kube.resources import INFERENCE_SERVICES, PODS, TRAINING_JOBS, Key
from lmforge_operator.labels import OWNER_UID, REVISION, ROLE
from lmforge_operator.manifests import Manifest
from lmforge_operator.reports.book import ReportBook
from lmforge_operator.reports.forward import Forwarder
from lmforge_operator.reports.identity import Reviewer
from lmforge_operator.reports.rate import RateLimit
from lmforge_operator.reports.server import ReportServer
from lmforge_operator.reports.tls import Certificate
from lmforge_operator.serving.demand import DemandBook

LEGAL = {"name": "legal", "uri": "pvc://models/legal"}
SERVICE = "lmforge-reports.lmforge-system.svc"


class PodsOf:
    """What the informer would have."""

    def __init__(self) -> None:
        self.pods: dict[tuple[str, str], Manifest] = {}

    def get(self, namespace: str, name: str) -> Manifest | None:
        return self.pods.get((namespace, name))

    def owned_by(self, uid: str) -> list[Manifest]:
        return [each for each in self.pods.values() if each["metadata"].get("labels", {}).get(OWNER_UID) == uid]


class Replica:
    """One operator's endpoint, with a certificate for the Service's name."""

    def __init__(self, world: "World", kube: Kube, *, leads: bool, rate: float = 1000) -> None:
        self.world = world
        self.book = ReportBook()
        self.demand = DemandBook()
        self.woken: list[tuple[Key, bool]] = []
        self.leads = leads
        self.holder = ""
        self.port = 0
        self.forwarder = Forwarder(
            holder=lambda: self.holder, ca_path=world.authority, service_url=f"https://{SERVICE}:8443"
        )
        self.server = ReportServer(
            book=self.book,
            demand=self.demand,
            reviewer=Reviewer(kube, remember_seconds=60, clock=monotonic),
            pods=world.pods,
            kinds={kind.plural: kind for kind in (TRAINING_JOBS, INFERENCE_SERVICES)},
            object_of=world.objects.get,
            wake=lambda key, urgent: self.woken.append((key, urgent)),
            leads=lambda: self.leads,
            forwarder=self.forwarder,
            rate=RateLimit(rate, clock=monotonic),
            now=lambda: datetime.now(UTC),
            max_body_bytes=4096,
        )

    async def start(self, stack: AsyncExitStack) -> "Replica":
        runner = web.AppRunner(self.server.application(), access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        stack.push_async_callback(self.forwarder.close)
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=Certificate(self.world.certificates).context)
        await site.start()
        self.port = runner.addresses[0][1]
        return self

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"


class World:
    """A namespace with two TrainingJobs, a pod each, and their tokens."""

    def __init__(self, api_server: ApiServer, folder: Path) -> None:
        self.api_server = api_server
        self.namespace = new_namespace(api_server, "reports")
        self.objects: dict[Key, Manifest] = {}
        self.pods = PodsOf()
        self.authority = api_server.control_plane.authority.certificate
        self.certificates = folder
        identity = api_server.control_plane.authority.sign(f"reports-{self.namespace}", user="reports", hosts=[SERVICE])
        (folder / "tls.crt").write_bytes(identity.certificate.read_bytes())
        (folder / "tls.key").write_bytes(identity.key.read_bytes())

    async def add(self, kube: Kube, name: str, *, attempt: int = 1) -> Manifest:
        made = await kube.create(TRAINING_JOBS, training_job(self.namespace, name))
        assert made is not None
        self.objects[Key("TrainingJob", self.namespace, name)] = made
        await self.add_pod(kube, f"{name}-0", owner=made, attempt=attempt)
        return made

    async def serve(self, kube: Kube, name: str) -> None:
        """An InferenceService with a gateway pod, a ready engine and one that loads."""
        made = await kube.create(INFERENCE_SERVICES, inference_service(self.namespace, name, adapters=[LEGAL]))
        assert made is not None
        self.objects[Key("InferenceService", self.namespace, name)] = made
        await self.add_pod(kube, f"{name}-gateway", owner=made, labels={ROLE: "gateway"})
        for number in range(2):
            engine = {ROLE: "engine", REVISION: "r"}
            await self.add_pod(kube, f"{name}-engine-{number}", owner=made, labels=engine)
        ready = {"conditions": [{"type": "Ready", "status": "True"}], "phase": "Running"}
        self.pods.pods[self.namespace, f"{name}-engine-0"]["status"] = ready

    async def add_pod(
        self, kube: Kube, name: str, *, owner: Manifest | None, attempt: int = 1, labels: Manifest | None = None
    ) -> None:
        wanted = pod(self.namespace, name, owner=owner, attempt=attempt, account="default")
        wanted["metadata"]["labels"] |= labels or {}
        made = await kube.create(PODS, wanted)
        assert made is not None
        self.pods.pods[self.namespace, name] = made

    def token(self, pod_name: str | None, *, audience: str) -> str:
        """What kubelet would project into the pod."""
        spec: dict[str, Any] = {"audiences": [audience], "expirationSeconds": 600}
        if pod_name is not None:
            uid = self.pods.pods[self.namespace, pod_name]["metadata"]["uid"]
            spec["boundObjectRef"] = {"kind": "Pod", "apiVersion": "v1", "name": pod_name, "uid": uid}
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/default/token"
        reply = self.api_server.request("POST", path, {"spec": spec})
        assert reply.ok, reply.message
        return str(reply.body["status"]["token"])

    def audience(self, name: str) -> str:
        return f"lmforge.dev/trainingjobs/{self.namespace}/{name}"

    async def demand(self, replica: Replica, name: str, pod_name: str, **report: int) -> tuple[int, Any]:
        """Posts what a gateway of an InferenceService says."""
        token = self.token(pod_name, audience=f"lmforge.dev/inferenceservices/{self.namespace}/{name}")
        return await self.post(replica, name, token, {"pod": "any", **report}, place="demand/inferenceservices")

    async def post(
        self,
        replica: Replica,
        name: str,
        token: str | None,
        body: Any = None,
        *,
        place: str = "progress/trainingjobs",
        **headers: str,
    ) -> tuple[int, Any]:
        context = ssl.create_default_context(cafile=str(self.authority))
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        url = f"{replica.url}/v1/{place}/{self.namespace}/{name}"
        report = {"attempt": 1, "stage": "Training", "step": 7, "steps": 10, "loss": 3.5} if body is None else body
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
            session.post(url, json=report, headers=headers, server_hostname=SERVICE) as answer,
        ):
            return answer.status, await answer.text()
