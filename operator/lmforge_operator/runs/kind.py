"""A run with its kind's spec: what a kind's observe.py puts together. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from lmforge_api.common import PodTemplate, Resources, RunStatus, Scheduling
from lmforge_operator.inputs.gather import Inputs
from lmforge_operator.runs import run
from lmforge_operator.runs.launch import template_hash
from lmforge_operator.runs.names import Owner, owner_of
from lmforge_operator.runs.observed import Seen, read_jobs, read_pods
from lmforge_operator.runs.run import NOTHING_MORE, Own, Run


class PodsSpec(run.RunSpec, Protocol):
    """What a run's pods are made from, besides."""

    @property
    def resources(self) -> Resources: ...
    @property
    def scheduling(self) -> Scheduling: ...
    @property
    def template(self) -> PodTemplate: ...


AnySpec = TypeVar("AnySpec", bound=PodsSpec)


@dataclass(frozen=True)
class Observed(Generic[AnySpec]):
    """A run as one reconcile sees it."""

    owner: Owner
    spec: AnySpec
    run: Run


def observed(
    manifest: Mapping[str, Any],
    seen: Seen,
    *,
    spec: AnySpec,
    status: RunStatus,
    image: str,
    inputs: Inputs,
    derived: dict[str, str],
    nodes_that_fit: tuple[int, ...] = (),
    own: Own = NOTHING_MORE,
) -> Observed[AnySpec]:
    """The run, of what was seen of it and what its kind makes of its spec."""
    report, reported_at = seen.report or (None, None)
    found = Run(
        now=seen.now,
        generation=manifest["metadata"].get("generation", 1),
        spec=spec,
        status=status if status.derived else status.model_copy(update={"derived": derived}),
        template_hash=template_hash(spec.template.wire(), spec.resources.wire(), spec.scheduling.wire(), image),
        jobs=read_jobs(seen.jobs, workloads=seen.workloads),
        pods=read_pods(seen.pods),
        report=report,
        reported_at=reported_at,
        inputs=inputs,
        own=own,
        lost_nodes=seen.lost_nodes,
        nodes_that_fit=nodes_that_fit,
    )
    return Observed(owner_of(manifest), spec, found)
