"""The endpoint with tokens that a real API server made for real pod objects, over TLS."""

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from apiserver import ApiServer
from real_api import inference_service, new_namespace, open_kube, pod, training_job

from lmforge_operator.kube.client import Kube
from lmforge_operator.kube.resources import INFERENCE_SERVICES, PODS, TRAINING_JOBS, Key, Manifest
from lmforge_operator.labels import OWNER_UID, REVISION, ROLE
from lmforge_operator.reports.book import ReportBook
from lmforge_operator.reports.forward import Forwarder
from lmforge_operator.reports.identity import Reviewer
from lmforge_operator.reports.rate import RateLimit
from lmforge_operator.reports.server import ReportServer
from lmforge_operator.reports.tls import Certificate
from lmforge_operator.serving.demand import DemandBook

pytestmark = pytest.mark.integration

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


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def kube(api_server: ApiServer, stack: AsyncExitStack) -> Kube:
    return await stack.enter_async_context(open_kube(api_server))


@pytest.fixture
async def world(api_server: ApiServer, kube: Kube, tmp_path: Path) -> World:
    world = World(api_server, tmp_path)
    api_server.request(
        "POST", f"/api/v1/namespaces/{world.namespace}/serviceaccounts", {"metadata": {"name": "default"}}
    )
    await world.add(kube, "mine")
    await world.add(kube, "other")
    return world


@pytest.fixture
async def leader(world: World, kube: Kube, stack: AsyncExitStack) -> Replica:
    return await Replica(world, kube, leads=True).start(stack)


async def test_a_pods_report_is_taken_and_wakes_its_object(world: World, leader: Replica) -> None:
    token = world.token("mine-0", audience=world.audience("mine"))
    status, reply = await world.post(leader, "mine", token)
    assert (status, reply) == (200, '{"stop":false}')
    key = Key("TrainingJob", world.namespace, "mine")
    latest = leader.book.latest(world.objects[key]["metadata"]["uid"])
    assert latest is not None
    assert latest[0].step == 7
    assert leader.woken == [(key, True)]


async def test_mere_progress_is_not_urgent_and_a_checkpoint_is(world: World, leader: Replica) -> None:
    token = world.token("mine-0", audience=world.audience("mine"))
    report = {"attempt": 1, "stage": "Training", "step": 7}
    for change in ({}, {"step": 8, "loss": 1.0}, {"step": 9, "checkpoint": {"step": 9}}, {"stage": "Exporting"}):
        assert (await world.post(leader, "mine", token, report | change))[0] == 200
    assert [urgent for _, urgent in leader.woken] == [True, False, True, True]


async def test_a_stop_that_was_asked_for_is_in_the_reply(world: World, leader: Replica) -> None:
    uid = world.objects[Key("TrainingJob", world.namespace, "mine")]["metadata"]["uid"]
    leader.book.ask_stop(uid, 1)
    token = world.token("mine-0", audience=world.audience("mine"))
    assert (await world.post(leader, "mine", token))[1] == '{"stop":true}'


async def test_a_gateways_demand_is_taken_and_answered_with_the_replicas_that_are_ready(
    world: World, kube: Kube, leader: Replica
) -> None:
    await world.serve(kube, "chat")
    assert await world.demand(leader, "chat", "chat-gateway", waiting=2) == (200, '{"ready":1,"adapters":["legal"]}')
    key = Key("InferenceService", world.namespace, "chat")
    held = leader.demand.held(world.objects[key]["metadata"]["uid"], now=datetime.now(UTC))
    assert held is not None
    assert held.waiting == 2
    await world.demand(leader, "chat", "chat-gateway", waiting=3)
    assert leader.woken == [(key, True), (key, False)]  # only the first that waits is urgent


async def test_only_gateways_speak_of_demand(world: World, kube: Kube, leader: Replica) -> None:
    await world.serve(kube, "chat")
    assert (await world.demand(leader, "chat", "chat-engine-0", waiting=1))[0] == 403
    assert (await world.demand(leader, "chat", "mine-0", waiting=1))[0] == 403


async def test_a_token_for_another_audience_is_refused(world: World, leader: Replica) -> None:
    for audience in ("https://kubernetes.default.svc.cluster.local", world.audience("other")):
        token = world.token("mine-0", audience=audience)
        assert (await world.post(leader, "mine", token))[0] == 401
    assert len(leader.book) == 0


async def test_a_pod_can_not_report_on_another_object(world: World, leader: Replica) -> None:
    # Whoever may make tokens can choose the audience; the pod is still not one of that object's.
    token = world.token("mine-0", audience=world.audience("other"))
    assert (await world.post(leader, "other", token))[0] == 403


async def test_a_pod_of_nobodys_is_refused(world: World, leader: Replica, kube: Kube) -> None:
    await world.add_pod(kube, "stranger", owner=None)
    token = world.token("stranger", audience=world.audience("mine"))
    assert (await world.post(leader, "mine", token))[0] == 403


async def test_a_token_that_belongs_to_no_pod_is_refused(world: World, leader: Replica) -> None:
    token = world.token(None, audience=world.audience("mine"))
    assert (await world.post(leader, "mine", token))[0] == 401


async def test_a_pod_of_an_earlier_attempt_can_not_speak_for_this_one(world: World, leader: Replica) -> None:
    token = world.token("mine-0", audience=world.audience("mine"))
    status, text = await world.post(leader, "mine", token, {"attempt": 2})
    assert status == 403
    assert "attempt" in text


async def test_without_a_token_or_with_nonsense_nothing_is_taken(world: World, leader: Replica) -> None:
    assert (await world.post(leader, "mine", None))[0] == 401
    assert (await world.post(leader, "mine", "nonsense"))[0] == 401
    assert len(leader.book) == 0


async def test_a_report_that_is_none_is_refused_with_a_sentence(world: World, leader: Replica) -> None:
    token = world.token("mine-0", audience=world.audience("mine"))
    status, text = await world.post(leader, "mine", token, {"attempt": 1, "step": -1})
    assert status == 400
    assert "step" in text


async def test_a_body_that_is_too_large_is_refused(world: World, leader: Replica) -> None:
    token = world.token("mine-0", audience=world.audience("mine"))
    assert (await world.post(leader, "mine", token, {"attempt": 1, "message": "x" * 10_000}))[0] == 413


async def test_too_many_reports_are_refused(world: World, kube: Kube, stack: AsyncExitStack) -> None:
    slow = await Replica(world, kube, leads=True, rate=2).start(stack)
    token = world.token("mine-0", audience=world.audience("mine"))
    statuses = [(await world.post(slow, "mine", token))[0] for _ in range(6)]
    assert statuses.count(200) >= 2
    assert 429 in statuses


async def test_a_token_is_reviewed_once_and_then_remembered(world: World, leader: Replica) -> None:
    token = world.token("mine-0", audience=world.audience("mine"))
    assert (await world.post(leader, "mine", token))[0] == 200
    leader.server._reviewer._kube = None  # type: ignore[assignment]
    assert (await world.post(leader, "mine", token))[0] == 200


async def test_a_standby_passes_reports_on_to_the_leader(
    world: World, leader: Replica, kube: Kube, stack: AsyncExitStack
) -> None:
    standby = await Replica(world, kube, leads=False).start(stack)
    standby.holder = f"leader_1@127.0.0.1:{leader.port}"
    token = world.token("mine-0", audience=world.audience("mine"))
    assert await world.post(standby, "mine", token) == (200, '{"stop":false}')
    assert len(leader.book) == 1
    assert len(standby.book) == 0
    assert (await world.post(standby, "mine", "nonsense"))[0] == 401


async def test_with_no_leader_the_pod_is_told_to_try_again(world: World, kube: Kube, stack: AsyncExitStack) -> None:
    standby = await Replica(world, kube, leads=False).start(stack)
    token = world.token("mine-0", audience=world.audience("mine"))
    assert (await world.post(standby, "mine", token))[0] == 503
    standby.holder = f"self@127.0.0.1:{standby.port}"  # a stale lease must not make a circle
    assert (await world.post(standby, "mine", token))[0] == 503


async def test_a_renewed_certificate_is_taken_up(world: World) -> None:
    certificate = Certificate(world.certificates)
    assert not certificate.refresh()
    identity = world.api_server.control_plane.authority.sign("reports-renewed", user="reports", hosts=[SERVICE])
    (world.certificates / "tls.crt").write_bytes(identity.certificate.read_bytes())
    (world.certificates / "tls.key").write_bytes(identity.key.read_bytes())
    assert certificate.refresh()
