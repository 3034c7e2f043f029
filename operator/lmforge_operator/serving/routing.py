"""Which routers there are, and where the gateway sends requests. Pure.

Without canaries one router finds the replicas of all revisions. With them each revision has a router of its own, from
its beginning to its end: none has to be changed when requests move from one revision to another, which loses no request
and no router's knowledge of its replicas' caches. Gateways are told the shares in the answers to their reports; the
Service of their configuration leads those that haven't heard yet to the revision that serves.

From one way to the other: the new routers come first, and the old ones go once nobody is sent to them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from lmforge_api.gateway_run import Route, Traffic
from lmforge_api.inferenceservice import InferenceServiceStatus, TrafficShare
from lmforge_operator.labels import Role
from lmforge_operator.serving.names import PORT, router_of
from lmforge_operator.serving.observed import FrontSeen


@dataclass(frozen=True)
class Routing:
    """What there should be."""

    shared: bool = True
    """Whether the router for all revisions is needed."""
    own: tuple[str, ...] = ()
    """Revisions with a router of their own."""
    upstream: str = ""
    """Revision whose router the gateway's Service leads to; empty: the shared one."""
    traffic: tuple[TrafficShare, ...] = ()


def shared_by_all(shared: FrontSeen | None, routers: Mapping[str, FrontSeen], *, current: str) -> Routing:
    """One router. Those of single revisions stay until it can take over."""
    if shared is not None and shared.available:
        return Routing()
    return Routing(own=tuple(routers), upstream=current if current in routers else "")


def by_revision(
    shared: FrontSeen | None, routers: Mapping[str, FrontSeen], *, own: tuple[str, ...], current: str, front: str
) -> Routing:
    """A router for each revision. The shared one stays until a gateway stands before them."""
    router = routers.get(current)
    can_take_over = shared is None or (router is not None and router.available > 0)
    if not can_take_over:
        return Routing(own=own)
    keeps_shared = shared is not None and front != Role.GATEWAY
    return Routing(shared=keeps_shared, own=own, upstream=current)


def shares(current: str, update: str, percent: int) -> tuple[TrafficShare, ...]:
    """Where requests go while the update gets so many percent."""
    if not percent:
        return (TrafficShare(revision=current, percent=100),)
    return TrafficShare(revision=current, percent=100 - percent), TrafficShare(revision=update, percent=percent)


def told(status: InferenceServiceStatus, namespace: str) -> Traffic | None:
    """What a gateway hears, made from the status alone: an operator that has just started says the same."""
    if not status.traffic:
        return None
    since = status.canary.step_started_at if status.canary else ""
    split = [f"{share.revision}={share.percent}" for share in status.traffic]
    routes = [
        Route(
            revision=share.revision,
            url=f"http://{router_of(share.revision)}.{namespace}.svc:{PORT}",
            percent=share.percent,
        )
        for share in status.traffic
    ]
    return Traffic(id=" ".join([*split, since]).strip(), routes=routes)
