"""A service as one reconcile sees it, and what the reconcile decides. Pure data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from lmforge_api.common import Ancestor, ModelShape
from lmforge_api.inferenceservice import InferenceServiceSpec, InferenceServiceStatus
from lmforge_operator.labels import Reason
from lmforge_operator.pods.state import PodState
from lmforge_operator.serving.adapters.replica import ReplicaAdapters
from lmforge_operator.serving.adapters.wanted import Adapter
from lmforge_operator.serving.autoscaler import Held, History
from lmforge_operator.serving.gates import Counts
from lmforge_operator.serving.load import Load
from lmforge_operator.serving.observed import FrontSeen, ReplicaSeen, RevisionSeen
from lmforge_operator.serving.rollout import Plan
from lmforge_operator.serving.routing import Routing
from lmforge_operator.serving.trouble import Struggle


@dataclass(frozen=True)
class Model:
    """Where the model is; or what is waited for, or wrong with it."""

    source: str = ""
    uri: str = ""
    digest: str = ""
    format: str = ""
    size: int = 0
    """Bytes of its weights."""
    shape: ModelShape | None = None
    lineage: tuple[Ancestor, ...] = ()
    waiting_for: str = ""
    reason: str = Reason.INPUTS_NOT_READY
    problem: str = ""
    """What an inspection found wrong with its files."""
    inspect: bool = False
    """Whether a pod has to look at its files first."""


@dataclass(frozen=True)
class Part:
    """The router or the gateway."""

    seen: FrontSeen | None = None
    pods: tuple[PodState, ...] = ()
    wanted: bool = True

    @property
    def ready(self) -> bool:
        """It does its work, or isn't wanted."""
        return not self.wanted or (self.seen is not None and self.seen.available > 0)


@dataclass(frozen=True)
class Serving:
    """Everything that a decision depends on."""

    now: datetime
    generation: int
    spec: InferenceServiceSpec
    status: InferenceServiceStatus
    model: Model
    url: str
    selector: str
    update: str = ""
    """Revision that the spec asks for; empty while the model isn't known."""
    revisions: Mapping[str, RevisionSeen] = field(default_factory=dict)
    draining: int = 0
    router: Part = Part()
    """The one for all revisions; with canaries that of the revision that serves."""
    shared_router: FrontSeen | None = None
    routers: Mapping[str, FrontSeen] = field(default_factory=dict)
    """Those that are for one revision, by its name."""
    gateway: Part = Part(wanted=False)
    front: str = ""
    """Role that the Service points at; empty while there is none."""
    load: Load = field(default_factory=Load)
    held: Held | None = None
    history: History | None = None
    counts: Mapping[str, Counts] = field(default_factory=dict)
    """What clients got from each revision since the shares of requests last changed."""
    hears_demand: bool = True
    """Whether gateways can tell the operator of the requests that they hold."""
    adapters: tuple[Adapter, ...] = ()
    replica_adapters: Mapping[str, ReplicaAdapters] = field(default_factory=dict)
    """By the replicas' names."""
    measure: bool = True
    """Whether it is time to show what was measured."""

    @property
    def by_revision(self) -> bool:
        """Whether each revision has a router of its own, and the gateway shares requests among them."""
        return self.spec.rollout.canary is not None and self.hears_demand

    @property
    def ready(self) -> int:
        """Replicas that take requests, of any revision."""
        return sum(revision.ready for revision in self.revisions.values())

    @property
    def up_to_date(self) -> int:
        """Those among them that the spec asks for: nothing else is ever called ready."""
        seen = self.revisions.get(self.update)
        return seen.ready if seen else 0

    @property
    def taking_requests(self) -> tuple[ReplicaSeen, ...]:
        return tuple(pod for revision in self.revisions.values() for pod in revision.pods if pod.serves)

    @property
    def loading(self) -> int:
        return sum(revision.loading for revision in self.revisions.values())

    def struggle(self, revision: str) -> Struggle | None:
        """How that revision gets on, if it is there."""
        seen = self.revisions.get(revision)
        return Struggle(seen, self.now, self.spec.rollout.ready_deadline_seconds) if seen else None


@dataclass(frozen=True)
class Decision:
    """What a reconcile has to do: bring the children there, write the status, delete what is retired, look again."""

    status: InferenceServiceStatus
    plan: Plan
    front: str
    routing: Routing
    history: History | None = None
    look_again: float | None = None
