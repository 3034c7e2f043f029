"""What exists of a TrainingJob: its spec and status typed, its Jobs, pods, reports and inputs."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lmforge_api import derive
from lmforge_api.base import API_VERSION
from lmforge_api.common import InputStatus, ObjectRef
from lmforge_api.run import ProgressReport
from lmforge_api.trainingjob import TrainingJobSpec, TrainingJobStatus
from lmforge_operator.inputs.references import Lookup, Resolved, missing_claims, resolve
from lmforge_operator.runs.launch import template_hash
from lmforge_operator.runs.names import Owner
from lmforge_operator.runs.observed import read_jobs, read_pods
from lmforge_operator.runs.run import Inputs, Run

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Sources:
    """Where each input is, as the spec names it or as the object that it refers to says."""

    dataset: str
    evaluation: str | None
    tokenizer: str | None
    model: str | None


@dataclass(frozen=True)
class Training:
    """A TrainingJob as this reconcile sees it."""

    owner: Owner
    spec: TrainingJobSpec
    sources: Sources
    run: Run


def owner_of(manifest: Manifest) -> Owner:
    """The TrainingJob as its children name it."""
    meta = manifest["metadata"]
    return Owner(API_VERSION, "TrainingJob", "trainingjobs", "tj", meta["namespace"], meta["name"], meta["uid"])


def observe(
    manifest: Manifest,
    *,
    jobs: list[Manifest],
    pods: list[Manifest],
    report: tuple[ProgressReport, datetime] | None,
    lookup: Lookup,
    has_claim: Callable[[str], bool],
    image: str,
    now: datetime,
    lost_nodes: frozenset[str] = frozenset(),
) -> Training:
    """Read everything once."""
    spec = TrainingJobSpec.model_validate(manifest["spec"])
    sources, inputs = _inputs(spec, lookup, has_claim)
    run = Run(
        now=now,
        generation=manifest["metadata"].get("generation", 1),
        spec=spec,
        status=_status(manifest, spec),
        template_hash=template_hash(spec.template.wire(), spec.resources.wire(), spec.scheduling.wire(), image),
        jobs=read_jobs(jobs),
        pods=read_pods(pods),
        report=report[0] if report else None,
        reported_at=report[1] if report else None,
        inputs=inputs,
        sources=_named(spec, sources),
        lost_nodes=lost_nodes,
        nodes_that_fit=_sizes(spec),
    )
    return Training(owner_of(manifest), spec, sources, run)


def _status(manifest: Manifest, spec: TrainingJobSpec) -> TrainingJobStatus:
    status = TrainingJobStatus.model_validate(manifest.get("status") or {})
    return status if status.derived else status.model_copy(update={"derived": derive.derived(spec)})


def _named(spec: TrainingJobSpec, sources: Sources) -> dict[str, InputStatus]:
    """Lineage: each input by name, with the object or URI that the spec gives and the URI that it came to."""
    other = spec.evaluation.dataset
    given = {
        "dataset": (spec.dataset.from_, sources.dataset),
        "evaluation": (other.from_ if other else None, sources.evaluation),
        "tokenizer": (None, sources.tokenizer),
        "model": (spec.model.from_, sources.model),
    }
    return {
        name: InputStatus(name=name, source=f"{ref.kind}/{ref.name}" if ref else "spec", uri=uri)
        for name, (ref, uri) in given.items()
        if uri
    }


def _sizes(spec: TrainingJobSpec) -> tuple[int, ...]:
    if spec.elastic is None:
        return ()
    sizes = range(spec.elastic.min_nodes, spec.elastic.max_nodes + 1)
    return tuple(nodes for nodes in sizes if derive.is_feasible(spec, nodes=nodes))


def _inputs(spec: TrainingJobSpec, lookup: Lookup, has_claim: Callable[[str], bool]) -> tuple[Sources, Inputs]:
    def of(reference: ObjectRef | None, uri: str | None) -> Resolved:
        return resolve(reference, uri, lookup)

    dataset = of(spec.dataset.from_, spec.dataset.uri)
    model = of(spec.model.from_, spec.model.uri)
    other = spec.evaluation.dataset
    evaluation = of(other.from_, other.uri) if other else Resolved()
    waiting = [source.waiting_for for source in (dataset, model, evaluation) if source.waiting_for]
    tokenizer = spec.dataset.tokenizer.uri if spec.dataset.tokenizer else None
    sources = Sources(dataset.uri, evaluation.uri or None, tokenizer, model.uri or None)
    waiting += missing_claims([dataset.uri, evaluation.uri, tokenizer or "", model.uri], has_claim)
    return sources, Inputs(waiting_for="; ".join(waiting))
