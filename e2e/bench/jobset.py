"""Bench (b), side by side: the same burst of objects through LMForge and through JobSet, alternating.

    python -m e2e.bench.jobset --objects 1000 --repeats 3 --json jobset.json

One API server, the same played pods: a JobSet here is one Indexed Job of as many pods as a TrainingJob has, with the
pod spec that LMForge makes. One controller runs at a time, started and warmed up anew for each turn, which ends when
garbage collection has settled.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from e2e.bench.control_plane import Burst, burst
from e2e.bench.control_plane_load import Observer, Subject, create, delete_all, observer, training_jobs
from e2e.bench.control_plane_world import (
    NAMESPACE,
    Measured,
    Operator,
    control_plane,
    cpu_seconds_of,
    memory_mib_of,
)
from e2e.bench.report import Sample, publish, ratios
from e2e.cluster.control_plane import ControlPlane
from e2e.controllers import Controller, Source
from lmforge_operator.kube.resources import JOBS, Resource
from lmforge_operator.manifests import Manifest

JOB_SETS = Resource("jobset.x-k8s.io", "v1alpha2", "jobsets", "JobSet")
JOB_SET = Source(
    program="jobset-manager",
    module="sigs.k8s.io/jobset",
    definitions="components/crd/bases/jobset.x-k8s.io_jobsets.yaml",
    webhooks="components/webhook",
    configuration="config.jobset.x-k8s.io/v1alpha1",
)
WARM_UP = 20


class Side(Measured, Protocol):
    """A controller that takes turns."""

    def start(self) -> object: ...

    def stop(self) -> None: ...


@dataclass
class JobSet:
    """JobSet's manager."""

    controller: Controller

    def start(self) -> None:
        self.controller.start()

    def stop(self) -> None:
        self.controller.stop()

    def cpu_seconds(self) -> float:
        return cpu_seconds_of(self._proc())

    def memory_mib(self, field: str = "VmRSS") -> float:
        return memory_mib_of(self._proc(), field)

    def _proc(self) -> Path:
        return Path("/proc") / str(self.controller.daemon.pid)


def job_sets(template: Manifest, *, nodes: int) -> Subject:
    """JobSets of one Indexed Job each. The Service of several pods bears no label, and is there before the Job."""
    return Subject(
        resource=JOB_SETS,
        children=(JOBS,),
        label="jobset.sigs.k8s.io/jobset-name",
        make=partial(_job_set, template=template, nodes=nodes),
        is_stated=lambda status: bool(status.get("replicatedJobsStatus")),
        is_scheduled=lambda status: any(each["ready"] for each in status.get("replicatedJobsStatus") or ()),
    )


def _job_set(name: str, *, template: Manifest, nodes: int) -> Manifest:
    job = {
        "completions": nodes,
        "parallelism": nodes,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "template": {"spec": template},
    }
    return {
        "apiVersion": JOB_SETS.api_version,
        "kind": JOB_SETS.kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "replicatedJobs": [{"name": "w", "replicas": 1, "template": {"spec": job}}],
            "network": {"enableDNSHostnames": nodes > 1},  # as ours: one pod needs no Service
        },
    }


async def pods_of_ours(observed: Observer) -> Manifest:
    """The pod spec that a TrainingJob's Job has."""
    await create(observed, ["template"])
    jobs = observed.children[JOBS.plural]
    await observed.until(lambda: bool(jobs.names), seconds=60, what="a Job")
    job = await observed.kube.get(JOBS, NAMESPACE, next(iter(jobs.names)))
    assert job is not None
    await delete_all(observed)
    spec: Manifest = job["spec"]["template"]["spec"]
    return {key: value for key, value in spec.items() if key != "subdomain"}  # JobSet has a Service of its own


@asynccontextmanager
async def both(running: ControlPlane, ours: Operator, *, nodes: int) -> AsyncIterator[tuple[Observer, Observer]]:
    """Observers of both kinds."""
    async with observer(running.kubeconfig, training_jobs(nodes=nodes)) as of_ours:
        ours.start()
        template = await pods_of_ours(of_ours)
        ours.stop()
        async with observer(running.kubeconfig, job_sets(template, nodes=nodes)) as of_theirs:
            yield of_ours, of_theirs


async def turn(side: Side, observed: Observer, objects: int, *, running: ControlPlane) -> Burst:
    """One controller's turn, from its start to its end."""
    side.start()
    try:
        await burst(observed, side, min(WARM_UP, objects), running=running)
        await delete_all(observed)
        measured = await burst(observed, side, objects, running=running)
        await delete_all(observed)
        return measured
    finally:
        side.stop()


async def bench(options: argparse.Namespace) -> tuple[list[Burst], list[Burst]]:
    """Ours and theirs, by turns; each second round begins with the other."""
    mine: list[Burst] = []
    others: list[Burst] = []
    with (
        tempfile.TemporaryDirectory(prefix="lmforge-bench-") as folder,
        control_plane(Path(folder), unlimited=True) as running,
    ):
        operator = Operator(running.kubeconfig, Path(folder))
        controller = Controller(JOB_SET, running, Path(folder) / "jobset", flags=("--zap-log-level=info",))
        controller.install()
        controller.stop()
        try:
            async with both(running, operator, nodes=options.nodes) as (of_ours, of_theirs):
                for number in range(options.repeats):
                    turns: list[tuple[list[Burst], Side, Observer]] = [
                        (mine, operator, of_ours),
                        (others, JobSet(controller), of_theirs),
                    ]
                    for bursts, side, observed in turns if number % 2 == 0 else reversed(turns):
                        bursts.append(await turn(side, observed, options.objects, running=running))
                        print(f"  {observed.subject.resource.kind}: {bursts[-1]}", flush=True)
        finally:
            operator.stop()
            controller.stop()
            if options.log:
                shutil.copytree(folder, options.log, ignore=shutil.ignore_patterns("etcd", "pki"), dirs_exist_ok=True)
    return mine, others


def samples(mine: Sequence[Burst], others: Sequence[Burst]) -> list[Sample]:
    """Both sides' figures and their ratios."""

    def pair(what: str, unit: str, field: str) -> list[Sample]:
        ours = Sample(f"LMForge {what}", unit, [getattr(one, field) for one in mine])
        theirs = Sample(f"JobSet {what}", unit, [getattr(one, field) for one in others])
        return [ours, theirs, ratios(ours, theirs)]

    return [
        *pair("children and statuses", "objects/s", "there_a_second"),
        *pair("until statuses say that pods are placed", "s", "scheduled_seconds"),
        *pair("CPU until children and statuses", "s", "operator_cpu_seconds"),
        *pair("CPU until pods are placed", "s", "operator_cpu_seconds_scheduled"),
        *pair("memory", "MiB", "memory_mib"),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=1000, help="objects at once")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--nodes", type=int, default=1, help="pods of each object")
    parser.add_argument("--json", type=Path, help="where to write the result")
    parser.add_argument("--log", type=Path, help="folder to keep the logs in")
    options = parser.parse_args()
    mine, others = asyncio.run(bench(options))
    title = f"{options.objects} objects of {options.nodes} pods at once, LMForge and JobSet by turns"
    publish(title, samples(mine, others), target="objects/s at least JobSet's", json_file=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
