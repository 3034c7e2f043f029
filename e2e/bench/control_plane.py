"""Bench (b), the control plane: how fast the operator takes TrainingJobs through, and what it costs.

    python -m e2e.bench.control_plane --objects 1000 --present 5000 --repeats 3 --json control_plane.json

Real etcd, API server, controller manager and scheduler; KWOK plays the pods; everything shares this machine's cores.
Phase 1, repeated: so many TrainingJobs at once, until all their children and statuses are there (and, further on, until
every status says that its pods are scheduled); garbage collection settles in between. Phase 2: with many present,
memory, CPU at rest, and the time from the start of a new operator process to the first status that it writes.
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from e2e.bench.control_plane_load import Observer, create, delete_all, observer, training_jobs
from e2e.bench.control_plane_world import Measured, Operator, control_plane, cpu_seconds
from e2e.cluster.control_plane import ControlPlane

REST_SECONDS = 60


@dataclass(frozen=True)
class Burst:
    """One run of phase 1. Rates are objects a second from the first create on."""

    objects: int
    created_seconds: float
    there_seconds: float
    scheduled_seconds: float
    there_a_second: float
    operator_cpu_seconds: float
    operator_cpu_seconds_scheduled: float
    memory_mib: float
    others_cpu_seconds: dict[str, float]
    """Of the components that share the cores, until all is scheduled; `bench` is the load and the observer."""


@dataclass(frozen=True)
class Rest:
    """Phase 2."""

    present: int
    memory_mib: float
    memory_peak_mib: float
    idle_cpu_percent: float
    restart_seconds: float
    memory_after_restart_mib: float
    memory_after_restart_peak_mib: float
    settle_cpu_seconds: float


async def burst(observed: Observer, operator: Measured, objects: int, *, running: ControlPlane) -> Burst:
    """So many at once."""
    others = _others(running)
    children = [observed.children[resource.plural] for resource in observed.subject.children]
    cpu, started = operator.cpu_seconds(), time.monotonic()
    await create(observed, [f"b{number:05d}" for number in range(objects)])
    created = time.monotonic()
    there = [*children, observed.stated]
    await observed.until(
        lambda: all(len(tally.names) >= objects for tally in there), seconds=600, what="children and statuses"
    )
    cpu_there = operator.cpu_seconds()
    scheduled = observed.scheduled
    await observed.until(lambda: len(scheduled.names) >= objects, seconds=600, what="scheduled")
    seconds = max(tally.at for tally in there) - started
    return Burst(
        objects=objects,
        created_seconds=round(created - started, 2),
        there_seconds=round(seconds, 2),
        scheduled_seconds=round(scheduled.at - started, 2),
        there_a_second=round(objects / seconds, 1),
        operator_cpu_seconds=round(cpu_there - cpu, 2),
        operator_cpu_seconds_scheduled=round(operator.cpu_seconds() - cpu, 2),
        memory_mib=round(operator.memory_mib(), 1),
        others_cpu_seconds={name: round(used - others[name], 2) for name, used in _others(running).items()},
    )


def _others(running: ControlPlane) -> dict[str, float]:
    return cpu_seconds(running) | {"bench": time.process_time()}


async def rest(observed: Observer, operator: Operator, present: int) -> Rest:
    """With so many present."""
    await create(observed, [f"p{number:05d}" for number in range(present)])
    scheduled = observed.scheduled
    await observed.until(lambda: len(scheduled.names) >= present, seconds=1800, what="scheduled")
    await _settled(operator)
    memory, peak = operator.memory_mib(), operator.memory_mib("VmHWM")
    cpu = operator.cpu_seconds()
    await asyncio.sleep(REST_SECONDS)
    idle = 100 * (operator.cpu_seconds() - cpu) / REST_SECONDS
    operator.stop()
    await create(observed, ["after-restart"])
    started = operator.start()
    await observed.until(lambda: "after-restart" in observed.stated.names, seconds=120, what="restart")
    restarted = time.monotonic() - started
    await _settled(operator)
    return Rest(
        present=present,
        memory_mib=round(memory, 1),
        memory_peak_mib=round(peak, 1),
        idle_cpu_percent=round(idle, 2),
        restart_seconds=round(restarted, 2),
        memory_after_restart_mib=round(operator.memory_mib(), 1),
        memory_after_restart_peak_mib=round(operator.memory_mib("VmHWM"), 1),
        settle_cpu_seconds=round(operator.cpu_seconds(), 2),
    )


async def _settled(operator: Operator, *, quiet_seconds: float = 10, below: float = 0.2) -> None:
    """Waits until the operator has used next to no CPU for a while."""
    while True:
        cpu = operator.cpu_seconds()
        await asyncio.sleep(quiet_seconds)
        if operator.cpu_seconds() - cpu < below:
            return


async def bench(options: argparse.Namespace) -> dict[str, object]:
    """The whole of it."""
    with (
        tempfile.TemporaryDirectory(prefix="lmforge-bench-") as folder,
        control_plane(Path(folder), unlimited=options.controllers == "unlimited") as running,
    ):
        operator = Operator(running.kubeconfig, Path(folder))
        operator.start()
        try:
            async with observer(running.kubeconfig, training_jobs(nodes=options.nodes)) as observed:
                burst_of = partial(burst, observed, operator, running=running)
                await burst_of(20)  # warm: caches, connections, imports
                await delete_all(observed)
                bursts = []
                for _ in range(options.repeats if options.objects else 0):
                    bursts.append(await burst_of(options.objects))
                    print(f"  {bursts[-1]}", flush=True)
                    await delete_all(observed)
                rested = await rest(observed, operator, options.present) if options.present else None
        finally:
            operator.stop()
            if options.log:
                shutil.copy(f"{folder}/operator.log", options.log)
    return {
        "cores": os.cpu_count(),
        "nodes": options.nodes,
        "controllers": options.controllers,
        "bursts": [asdict(one) for one in bursts],
        "median": _summary(bursts, statistics.median),
        "spread": _summary(bursts, lambda values: round(max(values) - min(values), 2)),
        "rest": asdict(rested) if rested else None,
    }


def _summary(bursts: list[Burst], of: Callable[[list[float]], float]) -> dict[str, float]:
    fields = (
        "there_a_second",
        "there_seconds",
        "scheduled_seconds",
        "operator_cpu_seconds",
        "operator_cpu_seconds_scheduled",
    )
    return {name: of([getattr(one, name) for one in bursts]) for name in fields} if bursts else {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=1000, help="TrainingJobs at once (0: skip)")
    parser.add_argument("--present", type=int, default=5000, help="TrainingJobs that are there at rest (0: skip)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--nodes", type=int, default=1, help="pods of each TrainingJob; more than one adds a Service")
    parser.add_argument(
        "--controllers",
        choices=["default", "unlimited"],
        default="unlimited",
        help="request limits of Kubernetes' own controllers: as they come, or none",
    )
    parser.add_argument("--json", type=Path, help="where to write the result")
    parser.add_argument("--log", type=Path, help="where to keep the operator's log")
    options = parser.parse_args()
    result = asyncio.run(bench(options))
    text = json.dumps(result, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
