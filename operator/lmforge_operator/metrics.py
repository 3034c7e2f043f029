"""What Prometheus sees. Counters live here; what can be read from a cache is read when Prometheus asks.

Gauges per object would cost a kilobyte each and have to be removed with it: `LiveCollector` keeps none.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lmforge_api.run import ProgressReport
from lmforge_operator.kube.resources import Key

SECONDS = (0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60)

RECONCILES = Counter("lmforge_reconciles", "Reconciles, by kind and result.", ("kind", "result"))
RECONCILE_SECONDS = Histogram("lmforge_reconcile_seconds", "Time a reconcile takes.", ("kind",), buckets=SECONDS)
ERRORS = Counter("lmforge_reconcile_errors", "Failed reconciles, by kind and class of error.", ("kind", "error"))
QUEUE_SECONDS = Histogram("lmforge_queue_seconds", "Time a key waits once it is due.", buckets=SECONDS)
API_REQUESTS = Counter("lmforge_api_requests", "Requests to the API server; code 0 is no answer.", ("verb", "code"))
LEADER = Gauge("lmforge_leader", "1 on the replica that leads.")
REPORTS = Counter("lmforge_progress_reports", "Progress reports, by what became of them.", ("outcome",))

RUN_GAUGES: tuple[tuple[str, str, Callable[[ProgressReport], float | None]], ...] = (
    ("step", "Last finished step of a run.", lambda report: report.step),
    ("loss", "Training loss of a run (nats a token).", lambda report: report.loss),
    ("tokens_per_second", "Throughput of a run, all ranks together.", lambda report: report.tokens_per_second),
    (
        "evaluation_loss",
        "Newest evaluation loss of a run (nats a token).",
        lambda report: report.evaluation.loss if report.evaluation else None,
    ),
    (
        "peak_memory_bytes",
        "Most memory that a rank of a FineTune has had at once.",
        lambda report: report.fine_tune.peak_memory_bytes if report.fine_tune else None,
    ),
)


@cache
def _requests(verb: str, code: int) -> Counter:
    return API_REQUESTS.labels(verb, str(code))


def count_request(verb: str, code: int) -> None:
    """One request to the API server was answered (0: was not)."""
    _requests(verb, code).inc()


@dataclass(frozen=True)
class LiveCollector(Collector):
    """Numbers that caches, queue and reports hold anyway."""

    queue_depths: Callable[[], dict[str, int]]
    watch_ages: Callable[[], dict[str, float]]
    phases: Callable[[], Iterable[tuple[str, dict[str, int]]]]
    runs: Callable[[], Iterable[tuple[Key, ProgressReport]]]

    def collect(self) -> Iterator[Metric]:
        yield _family("lmforge_queue_depth", "Keys in the queue.", ("state",), self.queue_depths())
        yield _family("lmforge_watch_age_seconds", "Silence of each watch.", ("resource",), self.watch_ages())
        objects = GaugeMetricFamily("lmforge_objects", "Objects by kind and phase.", labels=("kind", "phase"))
        for kind, counts in self.phases():
            for phase, count in counts.items():
                objects.add_metric((kind, phase), count)
        yield objects
        yield from self._runs()

    def _runs(self) -> Iterator[Metric]:
        runs = [((key.kind, key.namespace, key.name), report) for key, report in self.runs()]
        for name, help_, read in RUN_GAUGES:
            family = GaugeMetricFamily(f"lmforge_run_{name}", help_, labels=("kind", "namespace", "name"))
            for labels, report in runs:
                value = read(report)
                if value is not None:
                    family.add_metric(labels, value)
            yield family


def _family(name: str, help_: str, labels: tuple[str], values: dict[str, int] | dict[str, float]) -> Metric:
    family = GaugeMetricFamily(name, help_, labels=labels)
    for label, value in values.items():
        family.add_metric((label,), value)
    return family


def render(registry: CollectorRegistry = REGISTRY) -> bytes:
    """The text that /metrics serves."""
    return generate_latest(registry)
