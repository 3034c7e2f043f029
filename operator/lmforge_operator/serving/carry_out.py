"""Do what was decided, in an order in which a crash between any two steps loses no request.

Children first (their names make doing it twice harmless), then the status that records them, then the deletion of what
is not needed any more. A child is written only when what it was made from has changed.
"""

from collections.abc import Mapping
from typing import Protocol

from lmforge_operator.engine import status
from lmforge_operator.engine.context import Context
from lmforge_operator.errors import Conflict, UserError
from lmforge_operator.kube.informer import Informer
from lmforge_operator.kube.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    JOBS,
    LEADER_WORKER_SETS,
    ROLE_BINDINGS,
    ROLES,
    SERVICE_ACCOUNTS,
    SERVICES,
    Resource,
)
from lmforge_operator.labels import OWNER_NAME, OWNER_UID, TEMPLATE_HASH, Reason, Role
from lmforge_operator.manifests import Manifest
from lmforge_operator.serving import events
from lmforge_operator.serving.names import Owner
from lmforge_operator.serving.observed import RevisionSeen
from lmforge_operator.serving.service import Decision, Serving


class Wanted(Protocol):
    """Manifests of a service's children."""

    @property
    def owner(self) -> Owner: ...
    def revision(self, *, replicas: int) -> Manifest: ...
    def inspection(self) -> Manifest: ...
    def adapters(self) -> Manifest | None: ...
    def service(self, role: str) -> Manifest: ...
    def router_identity(self) -> tuple[Manifest, Manifest, Manifest]: ...
    def router(self, revision: RevisionSeen | None = None) -> Manifest: ...
    def router_service(self, made: Mapping[str, object], revision: str) -> Manifest: ...
    def gateway(self) -> Manifest | None: ...
    def beside_gateway(self, made: Mapping[str, object], *, upstream: str) -> tuple[Manifest, Manifest]: ...


async def carry_out(
    context: Context, resource: Resource, manifest: Manifest, serving: Serving, decision: Decision, wanted: Wanted
) -> float | None:
    """Bring the children there, write the status if it changed, delete; gives the seconds after which to look again."""
    uid = manifest["metadata"]["uid"]
    if decision.history is not None:
        context.memory.scaling[uid] = decision.history
    if serving.model.inspect and not serving.spec.stopped:
        await context.kube.create(JOBS, wanted.inspection())
    await _ensure_front(context, serving, decision, wanted)
    if (adapters := wanted.adapters()) is not None:  # before the replicas that read it
        await _ensure(context, CONFIG_MAPS, context.config_maps, adapters)
    await _ensure_revisions(context, serving, decision, wanted)
    news = events.between(manifest.get("status") or {}, decision.status)
    await status.write(context, resource, manifest, decision.status.wire(), news)
    await _remove(context, serving, decision, wanted)
    return decision.look_again


async def _ensure_front(context: Context, serving: Serving, decision: Decision, wanted: Wanted) -> None:
    if serving.shared_router is None and not serving.routers:
        for kind, part in zip((SERVICE_ACCOUNTS, ROLES, ROLE_BINDINGS), wanted.router_identity(), strict=True):
            if await context.kube.create(kind, part) is None:
                await _claimed(context, kind, part)
    await _ensure_routers(context, serving, decision, wanted)
    gateway = wanted.gateway()
    if gateway is not None:
        made = await _ensure(context, DEPLOYMENTS, context.deployments, gateway)
        config, service = wanted.beside_gateway(made, upstream=decision.routing.upstream)
        await _ensure(context, CONFIG_MAPS, context.config_maps, config)
        await _ensure(context, SERVICES, context.services, service)
    await _ensure(context, SERVICES, context.services, wanted.service(decision.front))


async def _ensure_routers(context: Context, serving: Serving, decision: Decision, wanted: Wanted) -> None:
    """The one for all revisions, or one for each that is there: it goes with its revision's Deployment."""
    if decision.routing.shared:
        await _ensure(context, DEPLOYMENTS, context.deployments, wanted.router())
    for name in decision.routing.own:
        if (revision := serving.revisions.get(name)) is not None:
            made = await _ensure(context, DEPLOYMENTS, context.deployments, wanted.router(revision))
            await _ensure(context, SERVICES, context.services, wanted.router_service(made, name))


async def _ensure_revisions(context: Context, serving: Serving, decision: Decision, wanted: Wanted) -> None:
    namespace = wanted.owner.namespace
    for name, replicas in decision.plan.replicas.items():
        seen = serving.revisions.get(name)
        if seen is None:
            made, resource = wanted.revision(replicas=replicas), _revisions(serving.spec.nodes)
            if await context.kube.create(resource, made) is None:
                await _claimed(context, resource, made)
        elif seen.replicas != replicas:
            await context.kube.merge(_revisions(seen.nodes), namespace, name, {"spec": {"replicas": replicas}})


def _revisions(nodes: int) -> Resource:
    """What a revision is whose replicas are of so many pods."""
    return LEADER_WORKER_SETS if nodes > 1 else DEPLOYMENTS


async def _remove(context: Context, serving: Serving, decision: Decision, wanted: Wanted) -> None:
    owner = wanted.owner
    for name in decision.plan.retire:
        await context.kube.delete(_revisions(serving.revisions[name].nodes), owner.namespace, name)
    if serving.shared_router and not decision.routing.shared:
        await context.kube.delete(DEPLOYMENTS, owner.namespace, serving.shared_router.name)
    for name in serving.routers.keys() - {*decision.routing.own, *decision.plan.retire}:
        await context.kube.delete(DEPLOYMENTS, owner.namespace, serving.routers[name].name)
    if serving.gateway.seen and wanted.gateway() is None and serving.front == Role.ROUTER:
        await context.kube.delete(DEPLOYMENTS, owner.namespace, serving.gateway.seen.name)


async def _ensure(context: Context, resource: Resource, cache: Informer, wanted: Manifest) -> Manifest:
    """The child as it is there, made or changed where it has to be."""
    meta = wanted["metadata"]
    known = cache.get(meta["namespace"], meta["name"])
    if known is None or not _belongs(known, wanted):
        known = await _claimed(context, resource, wanted)
    if known is not None and _hash(known) == _hash(wanted):
        return known
    return await context.kube.apply(resource, wanted)


async def _claimed(context: Context, resource: Resource, wanted: Manifest) -> Manifest | None:
    """What has the name on the server: nothing, or a child that the cache doesn't know yet.

    Raises Conflict (look again soon) while a child of a former service of this name is being removed, UserError when it
    is somebody else's.
    """
    meta = wanted["metadata"]
    found = await context.kube.get(resource, meta["namespace"], meta["name"])
    if found is None or _belongs(found, wanted):
        return found
    if (found["metadata"].get("labels") or {}).get(OWNER_NAME) == meta["labels"][OWNER_NAME]:
        raise Conflict(f"{resource.kind} {meta['name']} of the former service is still being removed", status=409)
    raise UserError(
        f"{resource.kind} {meta['name']} exists already and belongs to something else: rename one of them",
        reason=Reason.NAME_TAKEN,
    )


def _belongs(found: Manifest, wanted: Manifest) -> bool:
    return bool((found["metadata"].get("labels") or {}).get(OWNER_UID) == wanted["metadata"]["labels"][OWNER_UID])


def _hash(manifest: Manifest) -> str:
    return str((manifest["metadata"].get("labels") or {}).get(TEMPLATE_HASH, ""))
