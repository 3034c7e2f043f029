"""The endpoint that pods post their progress to: POST /v1/progress/{plural}/{namespace}/{name}.

Checks, in this order: size and rate, the bearer token (a TokenReview with this object as the audience), that its pod is
a pod of this object and of the reported attempt, the report itself. Then the newest report is in the book and the
object's key on the queue: at once when something happened, else at most once in `statusIntervalSeconds`.

A standby passes the request on to the leader, which checks it again.
"""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol

import orjson
from aiohttp import web
from pydantic import ValidationError

from lmforge_api.run import ProgressReply, ProgressReport
from lmforge_operator import metrics
from lmforge_operator.errors import ApiError
from lmforge_operator.kube.resources import Key, Manifest, Resource
from lmforge_operator.labels import ATTEMPT, OWNER_UID
from lmforge_operator.reports.book import ReportBook
from lmforge_operator.reports.forward import Forwarder
from lmforge_operator.reports.identity import Caller, Reviewer
from lmforge_operator.reports.rate import RateLimit

log = logging.getLogger(__name__)

PATH = "/v1/progress/{plural}/{namespace}/{name}"


class Children(Protocol):
    """Pods, as an informer has them."""

    def get(self, namespace: str, name: str) -> Manifest | None: ...


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
        app.router.add_post(PATH, self.handle)
        return app

    async def handle(self, request: web.Request) -> web.Response:
        """One report."""
        try:
            body = await request.read()
            if not self._leads():
                return await self._forwarder.forward(request, body)
            reply = await self._accept(request, body)
        except Refused as refusal:
            metrics.REPORTS.labels(refusal.outcome).inc()
            return _answer({"error": str(refusal)}, refusal.status)
        metrics.REPORTS.labels("accepted").inc()
        return _answer(reply.wire(), 200)

    async def _accept(self, request: web.Request, body: bytes) -> ProgressReply:
        place = request.match_info
        resource = self._kinds.get(place["plural"])
        if resource is None:
            raise Refused(404, "unknown", "there is no such kind")
        key = Key(resource.kind, place["namespace"], place["name"])
        caller = await self._caller(request, resource, key)
        report = _report(body)
        uid = self._owner(key, caller, report)
        self._record(key, uid, report)
        return ProgressReply(stop=self._book.stop_asked(uid, report.attempt))

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

    def _owner(self, key: Key, caller: Caller, report: ProgressReport) -> str:
        """The object's UID, if the caller is a pod of this attempt of it."""
        obj = self._object_of(key)
        if obj is None:
            raise Refused(404, "unknown", f"there is no {key}")
        pod = self._pods.get(caller.namespace, caller.pod) if caller.namespace == key.namespace else None
        uid = str(obj["metadata"]["uid"])
        labels = (pod["metadata"].get("labels") or {}) if pod else {}
        if pod is None or pod["metadata"]["uid"] != caller.pod_uid or labels.get(OWNER_UID) != uid:
            raise Refused(403, "forbidden", f"{caller.pod} is not a pod of {key}")
        if labels.get(ATTEMPT) != str(report.attempt):
            raise Refused(403, "forbidden", f"{caller.pod} is of attempt {labels.get(ATTEMPT)}, not {report.attempt}")
        return uid

    def _record(self, key: Key, uid: str, report: ProgressReport) -> None:
        former = self._book.record(key, uid, report, received=self._now())
        self._wake(key, former is None or _milestones(former) != _milestones(report))


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


def _report(body: bytes) -> ProgressReport:
    try:
        return ProgressReport.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Refused(400, "invalid", f"not a progress report: {where}: {first['msg']}") from None


def _answer(body: object, status: int) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
