"""The endpoint that pods post to: POST /v1/progress/{plural}/{namespace}/{name}, and /v1/demand/… for gateways.

Checks, in this order: size and rate, the bearer token (a TokenReview with this object as the audience), the report
itself, that its pod is a pod of this object (of the reported attempt, or a gateway). Then the newest report is in a
book and the object's key on the queue: at once when something happened, else at most once in `statusIntervalSeconds`.

A standby passes the request on to the leader, which checks it again.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Protocol, TypeVar

import orjson
from aiohttp import web
from pydantic import ValidationError

from lmforge_api.base import StatusModel
from lmforge_api.gateway_run import DemandReply, DemandReport, Traffic
from lmforge_api.inferenceservice import InferenceServiceStatus
from lmforge_api.run import ProgressReply, ProgressReport
from lmforge_operator import metrics
from lmforge_operator.errors import ApiError
from lmforge_operator.kube.resources import Key, Resource
from lmforge_operator.labels import ATTEMPT, OWNER_UID, ROLE, Role
from lmforge_operator.manifests import Manifest
from lmforge_operator.reports.book import ReportBook
from lmforge_operator.reports.forward import Forwarder
from lmforge_operator.reports.identity import Caller, Reviewer
from lmforge_operator.reports.rate import RateLimit
from lmforge_operator.serving.demand import DemandBook
from lmforge_operator.serving.observed import read_replicas
from lmforge_operator.serving.routing import told

log = logging.getLogger(__name__)

PROGRESS = "/v1/progress/{plural}/{namespace}/{name}"
DEMAND = "/v1/demand/{plural}/{namespace}/{name}"

Accept = Callable[[web.Request, bytes], Awaitable[StatusModel]]
Report = TypeVar("Report", bound=StatusModel)


class Children(Protocol):
    """Pods, as an informer has them."""

    def get(self, namespace: str, name: str) -> Manifest | None: ...
    def owned_by(self, uid: str) -> list[Manifest]: ...


class Refused(Exception):
    """The report is not taken; `outcome` is the word that metrics count by."""

    def __init__(self, status: int, outcome: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.outcome = outcome


class ReportServer:
    """The aiohttp handler. `wake(key, urgent)` puts a key on the queue."""

    def __init__(
        self,
        *,
        book: ReportBook,
        demand: DemandBook,
        reviewer: Reviewer,
        pods: Children,
        kinds: Mapping[str, Resource],
        object_of: Callable[[Key], Manifest | None],
        wake: Callable[[Key, bool], None],
        leads: Callable[[], bool],
        forwarder: Forwarder,
        rate: RateLimit,
        now: Callable[[], datetime],
        max_body_bytes: int,
    ) -> None:
        self._book = book
        self._demand = demand
        self._reviewer = reviewer
        self._pods = pods
        self._kinds = kinds
        self._object_of = object_of
        self._wake = wake
        self._leads = leads
        self._forwarder = forwarder
        self._rate = rate
        self._now = now
        self._max_body_bytes = max_body_bytes

    def application(self) -> web.Application:
        app = web.Application(client_max_size=self._max_body_bytes)
        app.router.add_post(PROGRESS, partial(self.handle, self._progress))
        app.router.add_post(DEMAND, partial(self.handle, self._demanded))
        return app

    async def handle(self, accept: Accept, request: web.Request) -> web.Response:
        """One report."""
        try:
            body = await request.read()
            if not self._leads():
                return await self._forwarder.forward(request, body)
            reply = await accept(request, body)
        except Refused as refusal:
            metrics.REPORTS.labels(refusal.outcome).inc()
            return _answer({"error": str(refusal)}, refusal.status)
        metrics.REPORTS.labels("accepted").inc()
        return _answer(reply.wire(), 200)

    async def _progress(self, request: web.Request, body: bytes) -> ProgressReply:
        key, caller = await self._identified(request)
        report = _report(ProgressReport, body)
        uid, labels = self._owner(key, caller)
        if labels.get(ATTEMPT) != str(report.attempt):
            raise Refused(403, "forbidden", f"{caller.pod} is of attempt {labels.get(ATTEMPT)}, not {report.attempt}")
        former = self._book.record(key, uid, report, received=self._now())
        self._wake(key, former is None or _milestones(former) != _milestones(report))
        return ProgressReply(stop=self._book.stop_asked(uid, report.attempt))

    async def _demanded(self, request: web.Request, body: bytes) -> DemandReply:
        key, caller = await self._identified(request)
        report = _report(DemandReport, body)
        uid, labels = self._owner(key, caller)
        if labels.get(ROLE) != Role.GATEWAY:
            raise Refused(403, "forbidden", f"{caller.pod} is not a gateway of {key}")
        report = report.model_copy(update={"pod": caller.pod})
        self._wake(key, self._demand.record(uid, report, received=self._now()))
        ready = sum(pod.serves for pod in read_replicas(self._pods.owned_by(uid)))
        found = self._object_of(key)
        return DemandReply(ready=ready, adapters=_adapters(found), traffic=_traffic(found, key.namespace))

    async def _identified(self, request: web.Request) -> tuple[Key, Caller]:
        place = request.match_info
        resource = self._kinds.get(place["plural"])
        if resource is None:
            raise Refused(404, "unknown", "there is no such kind")
        key = Key(resource.kind, place["namespace"], place["name"])
        return key, await self._caller(request, resource, key)

    async def _caller(self, request: web.Request, resource: Resource, key: Key) -> Caller:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Refused(401, "unauthenticated", "a bearer token is needed")
        if not self._rate.allows(hash(token)):
            raise Refused(429, "rate", "too many reports: one a second is enough")
        audience = f"{resource.group}/{resource.plural}/{key.namespace}/{key.name}"
        try:
            caller = await self._reviewer.identify(token.strip(), audience=audience)
        except ApiError:
            raise Refused(503, "unavailable", "the token can't be checked at the moment") from None
        if caller is None:
            raise Refused(401, "unauthenticated", f"the token is not valid for {audience}")
        return caller

    def _owner(self, key: Key, caller: Caller) -> tuple[str, Mapping[str, str]]:
        """The object's UID and the pod's labels, if the caller is a pod of it."""
        obj = self._object_of(key)
        if obj is None:
            raise Refused(404, "unknown", f"there is no {key}")
        pod = self._pods.get(caller.namespace, caller.pod) if caller.namespace == key.namespace else None
        uid = str(obj["metadata"]["uid"])
        labels = (pod["metadata"].get("labels") or {}) if pod else {}
        if pod is None or pod["metadata"]["uid"] != caller.pod_uid or labels.get(OWNER_UID) != uid:
            raise Refused(403, "forbidden", f"{caller.pod} is not a pod of {key}")
        return uid, labels


def _adapters(service: Manifest | None) -> list[str]:
    return [adapter["name"] for adapter in (service or {}).get("spec", {}).get("adapters") or ()]


def _traffic(service: Manifest | None, namespace: str) -> Traffic | None:
    """Where the gateway shall send requests, as status says."""
    status = (service or {}).get("status") or {}
    return told(InferenceServiceStatus.model_validate(status), namespace)


def _milestones(report: ProgressReport) -> tuple[object, ...]:
    """What a user wants to see at once; the rest is mere progress."""
    return (
        report.attempt,
        report.stage,
        report.checkpoint,
        report.artifact,
        report.evaluation,
        report.inputs,
        report.message,
    )


def _report(kind: type[Report], body: bytes) -> Report:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Refused(400, "invalid", f"not a {kind.__name__}: {where}: {first['msg']}") from None


def _answer(body: object, status: int) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
