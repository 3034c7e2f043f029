"""What the operator has to know about an engine to run it, probe it, measure it and drain it."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.metrics_core import Metric

from lmforge_api.inferenceservice import InferenceServiceSpec
from lmforge_api.inferenceservice_parts import EngineArgs
from lmforge_operator.serving.engines.adapter_api import AdapterApi
from lmforge_operator.serving.load import EngineLoad
from lmforge_operator.settings import Images


@dataclass(frozen=True)
class Task:
    """What one replica serves."""

    served_name: str
    """Name of the model in requests."""
    model: str
    """The model as the pod sees it: a directory, or hf://organisation/name@revision."""
    spec: InferenceServiceSpec

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
    port: int
    image: Callable[[Images, InferenceServiceSpec], str]
    formats: frozenset[str]
    """Formats of artifacts that it loads."""
    loads: str
    """The same for people: `engine vllm loads …`."""
    command: Callable[[Task], tuple[str, ...]]
    environment: Callable[[Task], Mapping[str, str]]
    warm_up: Callable[[Task], tuple[str, ...]]
    """Command of the startup probe: waits (less than WARM_UP_SECONDS) for the engine and has it answer once."""
    drain: Callable[[Task], tuple[str, ...]] | None
    """Command that ends when no request runs any more, for an engine that cuts them at SIGTERM."""
    cache_bytes: Callable[[EngineArgs], int]
    """Memory that the KV cache takes on CPU."""
    shares_cache: bool
    """Whether requests get their parts of that, so that a whole one has to fit into it."""
    health_path: str
    metrics_path: str
    measure: Callable[[Sequence[Metric]], EngineLoad]
    cache_number_bytes: int | None = None
    """Size of a number in the KV cache, where engineArgs.dtype doesn't say it."""
    adapters: AdapterApi | None = None
    """How it takes adapters while it runs; None: it takes none."""
    tells_tokens: bool = False
    """Whether it tells the router a prompt's tokens, by which that knows the replica that has them in its cache."""
    follower: Follower | None = None
    """How it runs on several nodes; None: each replica is one pod."""


UNNOTICED_SECONDS = 2
"""The router hears of a pod's end a moment after kubelet does: until then the engine still takes requests."""
ADAPTERS_PATH = "/etc/lmforge-adapters/adapters.json"
"""A replica's adapters as they should be when it starts: JSON of names and paths."""
WARM_UP_SECONDS = 60
"""A try of the warm-up may take so long; then kubelet tries again."""


def totals(families: Sequence[Metric]) -> Mapping[str, float]:
    """Each metric's samples added up; 0 for one that isn't there."""
    found: dict[str, float] = defaultdict(float)
    for family in families:
        for sample in family.samples:
            found[sample.name] += sample.value
    return found
