"""The operator is killed 50 times at random moments; no run loses anything, and nothing is done twice."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress

import pytest

from e2e.chaos.kill import kill_container, leader, operators
from e2e.cluster.errors import CommandFailed
from e2e.cluster.native import NativeCluster
from e2e.jobs import Run, assert_nothing_lost_or_doubled, little, pair
from e2e.lmforge import SYSTEM_NAMESPACE, Kube, NotReached, install

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

KILLS = 50
SEED = 20261123
LONGEST_REIGN = 1.0
"""Seconds that a leader gets at most."""
SHY = {"cpu": "10m", "memory": "2Gi", "sharedMemory": "256Mi"}
"""What the long run asks for: on two cores the operator, which is to be killed so often, starts sooner beside it."""
QUICK = {"settings.leaderElection": {"leaseSeconds": 2, "deadlineSeconds": 1.5, "renewSeconds": 0.5}}
"""A leader is missed after 2 s instead of 5 here, so that 50 reigns fit into minutes."""


@pytest.fixture
def quick(lmforge: Kube, images: Mapping[str, str]) -> Iterator[None]:
    """The chart with short leases; afterwards as it was."""
    install(lmforge, images, objects=QUICK)
    yield
    install(lmforge, images)


@pytest.mark.usefixtures("quick")
def test_runs_do_not_notice_that_the_operator_is_killed_again_and_again(kube: Kube, cluster: NativeCluster) -> None:
    moments = random.Random(SEED)
    kube.apply(pair("long", steps=4000, checkpoint={"everySteps": 200}, resources=SHY))
    runs, killed_pod = [Run(kube, "long")], False
    for kill in range(KILLS):
        if kill % 5 == 0:
            runs.append(begin_another(kube, kill))
        if kill == KILLS // 2:
            killed_pod = kill_a_rank(kube, cluster, runs[0])
        kill_leader(kube, cluster, moments)
    for run in runs:
        status = run.wait_succeeded(seconds=180)
        died = run is runs[0] and killed_pod
        assert status["restarts"] == (1 if died else 0), status["message"]
        assert_nothing_lost_or_doubled(run, status)
        assert_every_pod_was_made_once(run, attempts=len(status["attempts"]))


def begin_another(kube: Kube, number: int) -> Run:
    """A short run."""
    kube.apply(little(f"brief-{number}", steps=40))
    return Run(kube, f"brief-{number}")


def kill_a_rank(kube: Kube, cluster: NativeCluster, run: Run) -> bool:
    """In the middle of it all; False when the run was over already."""
    if kube.status(run.reference).get("phase") != "Running":
        return False
    kill_container(cluster, kube, run.pod(1))
    return True


def kill_leader(kube: Kube, cluster: NativeCluster, moments: random.Random) -> None:
    """Lets somebody take office, and ends that reign at a random moment."""
    pod = _living_leader(kube)
    time.sleep(moments.uniform(0, LONGEST_REIGN))
    system = kube.within(SYSTEM_NAMESPACE)
    with suppress(CommandFailed):  # when it has just ended by itself, having lost the lease
        kill_container(cluster, system, pod)
    # A container that died is started again later and later; a new pod starts at once.
    system("delete", "pod", pod, "--force", "--grace-period=0", "--wait=false", "--ignore-not-found")


def _living_leader(kube: Kube, *, seconds: float = 60) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        there = {pod["metadata"]["name"] for pod in operators(kube)}
        if (pod := leader(kube)) in there and pod is not None:
            return pod
        time.sleep(0.2)
    raise NotReached(f"no operator took over within {seconds:.0f} s\n{kube.within(SYSTEM_NAMESPACE)('get', 'pods')}")


def assert_every_pod_was_made_once(run: Run, *, attempts: int) -> None:
    """By the Job controller's own record: one Job an attempt, and as many pods as it has nodes."""
    nodes = run.kube.get(run.reference)["spec"]["nodes"]
    events = run.kube.items("events", "--field-selector=reason=SuccessfulCreate,involvedObject.kind=Job")
    made: Counter[str] = Counter()
    for event in events:
        made[event["involvedObject"]["name"]] += event.get("count") or 1
    mine = {name: count for name, count in made.items() if name.rpartition("-tj-")[0] == run.name}
    assert mine == {f"{run.name}-tj-{number}": nodes for number in range(1, attempts + 1)}
