"""What the operator has to know about an engine to run it, probe it, measure it and drain it."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.metrics_core import Metric

from lmforge_api.inferenceservice import InferenceServiceSpec
from lmforge_api.inferenceservice_parts import EngineArgs
from lmforge_operator.serving.engines.adapter_api import AdapterApi
from lmforge_operator.serving.load import EngineLoad
from lmforge_operator.settings import Images
from lmforge_operator.words import number_of


@dataclass(frozen=True)
class Task:
    """What one replica serves."""

    served_name: str
    """Name of the model in requests."""
    model: str
    """The model as the pod sees it: a directory, or hf://organisation/name@revision."""
    spec: InferenceServiceSpec

    @property
    def threads(self) -> int:
        """One a CPU of the pod."""
        return max(1, round(number_of(self.spec.resources.cpu)))

    @property
    def on_cpu(self) -> bool:
        """Whether the pod has no accelerator."""
        return self.spec.resources.accelerator is None


@dataclass(frozen=True)
class Follower:
    """How an engine runs on the other nodes of a replica. LeaderWorkerSet's variables tell a pod its place."""

    command: Callable[[Task], tuple[str, ...]]
    outlive: Callable[[Task], tuple[str, ...]]
    """Command that ends when the pod that takes the requests has finished them."""


@dataclass(frozen=True)
class Engine:
    """One engine. Functions are pure."""

    name: str
    image: Callable[[Images, InferenceServiceSpec], str]
    formats: frozenset[str]
    """Formats of artifacts that it loads."""
    loads: str
    """The same for people: `engine vllm loads …`."""
    command: Callable[[Task], tuple[str, ...]]
    warm_up: Callable[[Task], tuple[str, ...]]
    """Command of the startup probe: waits (less than WARM_UP_SECONDS) for the engine and has it answer once."""
    cache_bytes: Callable[[EngineArgs], int]
    """Memory that the KV cache takes on CPU."""
    shares_cache: bool
    """Whether requests get their parts of that, so that a whole one has to fit into it."""
    measure: Callable[[Sequence[Metric]], EngineLoad]
    metrics_path: str = "/metrics"
    environment: Callable[[Task], Mapping[str, str]] = lambda _: {}
    drain: Callable[[Task], tuple[str, ...]] | None = None
    """Command that ends when no request runs any more, for an engine that cuts them at SIGTERM."""
    cache_number_bytes: int | None = None
    """Size of a number in the KV cache, where engineArgs.dtype doesn't say it."""
    adapters: AdapterApi | None = None
    """How it takes adapters while it runs; None: it takes none."""
    tells_tokens: bool = False
    """Whether it tells the router a prompt's tokens, by which that knows the replica that has them in its cache."""
    follower: Follower | None = None
    """How it runs on several nodes; None: each replica is one pod."""


PORT = 8000
"""Where every engine listens in its pod."""
HEALTH_PATH = "/health"
SCRATCH = "/tmp"
"""Where the pod may write."""
KV_CACHE_GIB = 1
"""Of an engine that sets memory aside for it, where engineArgs.kvCache says nothing."""
UNNOTICED_SECONDS = 2
"""The router hears of a pod's end a moment after kubelet does: until then the engine still takes requests."""
ADAPTERS_PATH = "/etc/lmforge-adapters/adapters.json"
"""A replica's adapters as they should be when it starts: JSON of names and paths."""
WARM_UP_SECONDS = 60
"""A try of the warm-up may take so long; then kubelet tries again."""


def cache_gib(args: EngineArgs) -> int:
    """What an engine that sets memory aside for its KV cache does for all requests together."""
    return args.kv_cache or KV_CACHE_GIB


def cache_bytes(args: EngineArgs) -> int:
    """The same in bytes."""
    return cache_gib(args) * 2**30


def extra(args: EngineArgs) -> Iterator[str]:
    """The user's own arguments."""
    for name, value in sorted(args.extra.items()):
        yield from (f"--{name}", value) if value else (f"--{name}",)


def totals(families: Sequence[Metric]) -> Mapping[str, float]:
    """Each metric's samples added up; 0 for one that isn't there."""
    found: dict[str, float] = defaultdict(float)
    for family in families:
        for sample in family.samples:
            found[sample.name] += sample.value
    return found
