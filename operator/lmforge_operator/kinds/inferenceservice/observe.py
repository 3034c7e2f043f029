"""What exists of an InferenceService: its spec and status typed, its model, revisions, pods and measurements."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from lmforge_api.base import API_VERSION
from lmforge_api.inferenceservice import InferenceServiceSpec, InferenceServiceStatus
from lmforge_operator.inputs.references import Lookup
from lmforge_operator.kinds.inferenceservice.model import find_model
from lmforge_operator.labels import REVISION, ROLE, Role
from lmforge_operator.manifests import Manifest
from lmforge_operator.pods.state import read_pod
from lmforge_operator.serving import inspection, node_cache
from lmforge_operator.serving.adapters.book import Wanted
from lmforge_operator.serving.adapters.wanted import claims as adapter_claims
from lmforge_operator.serving.adapters.wanted import find_adapters
from lmforge_operator.serving.autoscaler import Held
from lmforge_operator.serving.engines import ENGINES
from lmforge_operator.serving.front import gateway
from lmforge_operator.serving.group_ends import with_ends
from lmforge_operator.serving.memory import Memory
from lmforge_operator.serving.names import Owner
from lmforge_operator.serving.observed import read_front, read_replicas, read_revisions, read_routers
from lmforge_operator.serving.routing import told
from lmforge_operator.serving.service import Model, Part, Serving
from lmforge_operator.settings import Settings


@dataclass(frozen=True)
class Service:
    """An InferenceService as this reconcile sees it."""

    owner: Owner
    spec: InferenceServiceSpec
    serving: Serving
    claims: tuple[str, ...]
    """Mounted by replicas besides the model's, for adapters."""

    @property
    def wanted_adapters(self) -> Wanted | None:
        """What replicas should have, where they take adapters."""
        return Wanted(ENGINES[self.spec.engine], self.serving.adapters) if self.spec.lora else None


@dataclass(frozen=True, kw_only=True)
class Children:
    """What the caches have of it."""

    deployments: list[Manifest]
    groups: list[Manifest] | None
    """LeaderWorkerSets; None where they aren't installed."""
    jobs: list[Manifest]
    pods: list[Manifest]
    service: Manifest | None
    """The Service that clients talk to."""


def owner_of(manifest: Manifest) -> Owner:
    """The InferenceService as its children name it."""
    meta = manifest["metadata"]
    place = meta["namespace"], meta["name"], meta["uid"]
    return Owner(API_VERSION, "InferenceService", "inferenceservices", "isvc", *place)


def observe(
    manifest: Manifest,
    *,
    children: Children,
    lookup: Lookup,
    has_claim: Callable[[str], bool],
    memory: Memory,
    settings: Settings,
    now: datetime,
) -> Service:
    """Read everything once."""
    owner = owner_of(manifest)
    spec = InferenceServiceSpec.model_validate(manifest["spec"])
    status = InferenceServiceStatus.model_validate(manifest.get("status") or {})
    replicas, followers = read_replicas(children.pods), read_replicas(children.pods, Role.FOLLOWER)
    look = inspection.read(owner.inspection(inspection.place(spec)), jobs=children.jobs, made=children.pods)
    has_groups = children.groups is not None
    model = find_model(
        spec,
        status.model,
        lookup,
        has_claim,
        look,
        has_groups=has_groups,
        has_node_cache=bool(settings.node_cache.path),
    )
    adapters = find_adapters(spec, status.adapters, lookup, has_claim)
    claims = adapter_claims(spec, adapters, has_claim, settings.store, model_uri=model.uri)
    wants_gateway = gateway.wanted(spec) is not None
    hears = settings.reports.service_url is not None
    traffic = told(status, owner.namespace)
    serving = Serving(
        now=now,
        generation=manifest["metadata"].get("generation", 1),
        spec=spec,
        status=status,
        model=model,
        url=owner.url,
        selector=owner.engine_selector,
        update="" if model.waiting_for else _revision(owner, spec, model, claims, settings),
        revisions={
            name: with_ends(seen, status.group_ends)
            for name, seen in read_revisions(
                (*children.deployments, *(children.groups or ())), replicas, followers
            ).items()
        },
        draining=sum(pod.drains for pod in replicas),
        router=_part(children, Role.ROUTER, wanted=not spec.stopped),
        shared_router=read_front(children.deployments, Role.ROUTER),
        routers=read_routers(children.deployments),
        gateway=_part(children, Role.GATEWAY, wanted=wants_gateway and not spec.stopped),
        front=((children.service or {}).get("metadata", {}).get("labels") or {}).get(ROLE, ""),
        load=memory.loads.total(owner.uid, {pod.name for pod in replicas if pod.serves}, now=now),
        held=memory.demand.held(owner.uid, now=now) if wants_gateway and hears else Held(),
        history=memory.scaling.get(owner.uid),
        counts=memory.demand.counts(owner.uid, traffic.id) if traffic else {},
        hears_demand=hears,
        adapters=adapters,
        replica_adapters=memory.adapters.replicas(owner.uid, {pod.name for pod in replicas}),
        measure=memory.due(owner.uid, now, seconds=settings.status_interval_seconds),
    )
    serving = _with_own_router(serving, children) if serving.by_revision else serving
    return Service(owner, spec, serving, claims)


def _with_own_router(serving: Serving, children: Children) -> Serving:
    """With canaries the router that counts is that of the revision that serves, once it has one."""
    serves = serving.status.current_revision or serving.update
    if serves not in serving.routers and serving.shared_router is not None:
        return serving
    pods = (read_pod(pod) for pod in children.pods if _is_router_of(serves, pod["metadata"]["labels"]))
    own = Part(serving.routers.get(serves), tuple(pod for pod in pods if not pod.deleting), serving.router.wanted)
    return replace(serving, router=own)


def _is_router_of(revision: str, labels: Mapping[str, str]) -> bool:
    return labels.get(ROLE) == Role.REVISION_ROUTER and labels.get(REVISION) == revision


def _revision(
    owner: Owner, spec: InferenceServiceSpec, model: Model, claims: tuple[str, ...], settings: Settings
) -> str:
    """A function of the pinned model and of all that replicas are made from. Replicas don't depend on the rest."""
    return owner.revision(
        model.uri,
        model.digest,
        spec.engine,
        spec.engine_args.model_copy(update={"lora": None}).wire(),
        spec.parallelism.wire(),
        spec.resources.wire(),
        spec.template.wire(),
        spec.drain_seconds,
        spec.template.image or ENGINES[spec.engine].image(settings.images, spec),
        *([spec.lora.wire(), claims] if spec.lora else []),
        *([spec.nodes] if spec.nodes > 1 else []),
        *([settings.node_cache.path] if node_cache.wanted(spec) else []),
    )


def _part(children: Children, role: str, *, wanted: bool) -> Part:
    pods = tuple(read_pod(pod) for pod in children.pods if pod["metadata"]["labels"].get(ROLE) == role)
    return Part(read_front(children.deployments, role), tuple(pod for pod in pods if not pod.deleting), wanted)
