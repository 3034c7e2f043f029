"""Do what was decided, in an order in which a crash between any two steps loses and doubles nothing.

Children first (their names make doing it twice harmless), then the status that records them, then the deletion of what
the status no longer needs. Until the status is written, everything that it was computed from still exists.
"""

import asyncio
from collections.abc import Awaitable, Callable

from lmforge_api.common import Attempt
from lmforge_operator.engine import status
from lmforge_operator.engine.context import Context
from lmforge_operator.errors import Conflict, NotFound, UserError
from lmforge_operator.kube.resources import (
    CONFIG_MAPS,
    COSCHEDULING_GROUPS,
    JOBS,
    PERSISTENT_VOLUME_CLAIMS,
    SERVICES,
    VOLCANO_GROUPS,
    Resource,
)
from lmforge_operator.manifests import Manifest
from lmforge_operator.runs import events, launch
from lmforge_operator.runs.launch import Launch
from lmforge_operator.runs.run import Decision
from lmforge_operator.settings import Store

PART_OF = "app.kubernetes.io/part-of"


async def carry_out(
    context: Context, resource: Resource, manifest: Manifest, decision: Decision, *, plan: Callable[[Attempt], Launch]
) -> float | None:
    """Launch, write the status if it changed, delete; gives the seconds after which to look again."""
    meta = manifest["metadata"]
    if decision.ask_stop is not None:
        context.reports.ask_stop(meta["uid"], decision.ask_stop)
    if decision.launch is not None:
        await _launch(context, plan(decision.launch))
    news = events.between(manifest.get("status") or {}, decision.status)
    await status.write(context, resource, manifest, decision.status.wire(), news)
    for name in decision.delete_jobs:
        await context.kube.delete(JOBS, meta["namespace"], name)
    if decision.delete_self:
        await context.kube.delete(resource, meta["namespace"], meta["name"], uid=meta["uid"])
    return decision.look_again


async def _launch(context: Context, wanted: Launch) -> None:
    """The Job, then what goes with it: a pod that starts before its ConfigMap is there waits for it."""
    kube, owner = context.kube, wanted.owner
    await _ensure_store(context, wanted)
    name = owner.job(wanted.attempt)
    made = await kube.create(JOBS, launch.job(wanted)) or await kube.get(JOBS, owner.namespace, name)
    if made is None:
        raise Conflict(f"Job {name} was there and is gone", status=409)
    creates: list[Awaitable[object]] = [
        kube.create(CONFIG_MAPS, launch.config_map(wanted, made)),
        _ensure_gang(context, wanted, made),
    ]
    if wanted.nodes > 1:
        creates.append(kube.create(SERVICES, launch.service(wanted)))
    await asyncio.gather(*creates)


async def _ensure_gang(context: Context, wanted: Launch, job: Manifest) -> None:
    group = launch.pod_group(wanted, job)
    if group is None:
        return
    name = wanted.scheduling.gang
    try:
        await context.kube.create(VOLCANO_GROUPS if name == "volcano" else COSCHEDULING_GROUPS, group)
    except NotFound as missing:
        raise UserError(
            f"scheduling.gang is {name}, but its PodGroup is not known here: install {name}, or set gang to none",
            reason="GangSchedulerMissing",
        ) from missing


async def _ensure_store(context: Context, wanted: Launch) -> None:
    store, namespace = context.settings.store, wanted.owner.namespace
    if store.create_claim and context.claims.get(namespace, wanted.store_claim) is None:
        await context.kube.create(PERSISTENT_VOLUME_CLAIMS, store_claim(store, namespace))


def store_claim(store: Store, namespace: str) -> Manifest:
    """The namespace's store. Nobody owns it: artifacts outlive the objects that made them."""
    spec: Manifest = {"accessModes": list(store.access_modes), "resources": {"requests": {"storage": store.size}}}
    if store.storage_class:
        spec["storageClassName"] = store.storage_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": store.claim_name,
            "namespace": namespace,
            "labels": {PART_OF: "lmforge"},
        },
        "spec": spec,
    }
