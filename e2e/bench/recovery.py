"""Bench (c), recovery: seconds from a killed pod to the next training step.

    python -m e2e.bench.recovery --repeats 4 --json recovery.json

One TrainingJob with two pods on two nodes; kill -9 of rank 0's container and of rank 1's by turns. The end is the time
in metrics.jsonl at which the next attempt had finished its first step. What a process needs for itself (import, meet,
load the checkpoint, first step) is what its own log says: from the moment when the later of the two pods began. The
rest is what LMForge and Kubernetes add: to notice, decide, create, schedule, and start containers.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from e2e.bench.place import Place, place
from e2e.bench.report import Sample, publish
from e2e.chaos.kill import kill_container
from e2e.jobs import Run, pair
from e2e.lmforge import Manifest

BEGINS = re.compile(r"rank \d+ begins at step \d+, ([0-9.]+) s after the pod")
RANKS = (0, 1)


@dataclass(frozen=True)
class Recovery:
    """Seconds of one."""

    rank: int
    total: float
    own: float

    @property
    def beyond(self) -> float:
        return self.total - self.own


def bench(where: Place, *, repeats: int) -> list[Recovery]:
    """So many kills of each rank."""
    forgiving = {"maxRestarts": 1000}
    where.kube.apply(pair("victim", steps=1_000_000, checkpoint={"everySteps": 100}, failurePolicy=forgiving))
    run = Run(where.kube, "victim")
    found = []
    for number in range(repeats * len(RANKS)):
        run.wait_checkpoint(beyond=_last_step(run))
        found.append(recover(where, run, rank=RANKS[number % len(RANKS)]))
        print(f"  {found[-1]}, beyond: {found[-1].beyond:.2f}", flush=True)
    where.kube("delete", run.reference, "--wait=false")
    return found


def recover(where: Place, run: Run, *, rank: int) -> Recovery:
    """Kill one, and see when training goes on."""
    attempt = where.kube.status(run.reference)["attempts"][-1]["number"]
    pod = run.pod(rank, attempt=attempt)
    killed = time.time()
    kill_container(where.cluster, where.kube, pod)
    where.kube.wait(run.reference, lambda s: _trains(s, attempt + 1), what="the next attempt's first step", seconds=60)
    stepped = next(line["time"] for line in run.lines(f"attempts/{attempt + 1:04}/metrics.jsonl") if "loss" in line)
    began = max(_began(run, pod["metadata"]["name"]) for pod in run.pods(attempt=attempt + 1))
    return Recovery(rank, total=stepped - killed, own=stepped - began)


def _last_step(run: Run) -> int:
    return int(run.kube.status(run.reference).get("progress", {}).get("step", 0))


def _trains(status: Manifest, attempt: int) -> bool:
    last = status["attempts"][-1]
    return bool(last["number"] == attempt and last["step"] > last["startStep"])


def _began(run: Run, pod: str) -> float:
    """When the pod's program began, by its own log."""
    for line in run.kube("logs", pod).splitlines():
        if line.startswith("{") and (found := BEGINS.search(line)):
            return datetime.fromisoformat(json.loads(line)["time"]).timestamp() - float(found[1])
    raise ValueError(f"the log of {pod} does not say when it began")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=4, help="kills of each rank")
    parser.add_argument("--json", type=Path, help="where to write the result")
    options = parser.parse_args()
    with place("recovery") as where:
        found = bench(where, repeats=options.repeats)
    samples = [
        Sample(f"rank {rank}: {what}", "s", [getattr(each, kind) for each in found if each.rank == rank])
        for rank in RANKS
        for what, kind in (("kill to next step", "total"), ("process's own", "own"), ("beyond", "beyond"))
    ]
    publish("Recovery from a killed pod", samples, target="at most 3 s beyond", json_file=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
