"""As the one who trains I lose at most `everySteps` steps, whatever dies, and status says within 10 s what it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from e2e.chaos.kill import kill_container, leader, operators
from e2e.cluster.native import NativeCluster
from e2e.cluster.shell import wait_for
from e2e.jobs import Run, assert_nothing_lost_or_doubled, pair
from e2e.lmforge import SYSTEM_NAMESPACE, Kube, Manifest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

TRUTH = 10.0
"""Seconds from a fault to the status that names it."""
LONG = {"steps": 600, "checkpoint": {"everySteps": 50}}


def start(kube: Kube, manifest: Manifest) -> Run:
    """Apply, and wait until there is something to lose."""
    kube.apply(manifest)
    run = Run(kube, manifest["metadata"]["name"])
    run.wait_checkpoint()
    return run


def each_rank(scenario: Callable[[int], None]) -> None:
    """Side by side for rank 0, which the others meet at and which reports, and for another."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(scenario, (0, 1)))


def first_attempt_ended(*words: str) -> Callable[[Manifest], bool]:
    """Whether status has recorded the end of attempt 1 in these words."""

    def recorded(status: Manifest) -> bool:
        attempts = status.get("attempts") or [{}]
        told = f"{attempts[0].get('reason')} {attempts[0].get('message')}"
        return attempts[0].get("outcome") != "Running" and all(word in told for word in words)

    return recorded


def finished_after_one_fault(run: Run) -> None:
    """It succeeds in its second attempt."""
    status = run.wait_succeeded(seconds=200)
    assert status["restarts"] == 1
    assert_nothing_lost_or_doubled(run, status)


def test_a_killed_pod_costs_at_most_the_steps_since_the_last_checkpoint(kube: Kube, cluster: NativeCluster) -> None:
    def scenario(index: int) -> None:
        run = start(kube, pair(f"killed-{index}", **LONG))
        pod = run.pod(index)
        kill_container(cluster, kube, pod)
        kube.wait(run.reference, first_attempt_ended(pod, "137"), what="the killed pod's name", seconds=TRUTH)
        finished_after_one_fault(run)

    each_rank(scenario)


def test_a_deleted_pod_costs_no_more(kube: Kube) -> None:
    def scenario(index: int) -> None:
        run = start(kube, pair(f"deleted-{index}", **LONG))
        pod = run.pod(index)
        kube("delete", "pod", pod, "--wait=false")
        kube.wait(run.reference, first_attempt_ended(pod, "deleted"), what="the deleted pod's name", seconds=TRUTH)
        finished_after_one_fault(run)

    each_rank(scenario)


def test_a_killed_operator_is_replaced_by_its_standby_which_misses_nothing(kube: Kube, cluster: NativeCluster) -> None:
    run = start(kube, pair("takeover", **LONG))
    pod, former = run.pod(1), leader(kube)
    assert former
    kill_container(cluster, kube.within(SYSTEM_NAMESPACE), former)
    kill_container(cluster, kube, pod)  # nobody looks at this moment
    kube.wait(run.reference, first_attempt_ended(pod, "137"), what="the killed pod's name", seconds=TRUTH)
    assert leader(kube) not in (None, former)
    finished_after_one_fault(run)


@pytest.fixture
def whole_again(kube: Kube, cluster: NativeCluster) -> Iterator[None]:
    """Both nodes and both operators are there for the next test."""
    yield
    for node in cluster.nodes:
        cluster.start_node(node.name)
    kube("wait", "nodes", "--all", "--for=condition=Ready", "--timeout=60s")
    wait_for(lambda: _ready_operators(kube) == 2, what="two ready operators", seconds=60, interval=1)


@pytest.mark.usefixtures("whole_again")
def test_a_lost_node_costs_no_more_and_an_elastic_run_goes_on_without_it(kube: Kube, cluster: NativeCluster) -> None:
    kube.apply(pair("elastic", elastic={"minNodes": 1, "maxNodes": 2}, **LONG))
    fixed, elastic = start(kube, pair("node-lost", **LONG)), Run(kube, "elastic")
    elastic.wait_checkpoint()
    node = fixed.pods()[1]["spec"]["nodeName"]
    cluster.stop_node(node)
    kube("wait", f"node/{node}", "--for=condition=Ready=Unknown", "--timeout=30s")
    for run in (fixed, elastic):
        kube.wait(run.reference, first_attempt_ended("NodeLost", node), what="the lost node's name", seconds=TRUTH)
    assert elastic.wait_checkpoint(beyond=50)["nodes"] == 1
    assert fixed.wait_checkpoint(beyond=50)["nodes"] == 2
    cluster.start_node(node)
    for run in (fixed, elastic):
        finished_after_one_fault(run)


def _ready_operators(kube: Kube) -> int:
    return sum(all(each["ready"] for each in pod["status"].get("containerStatuses", [{"ready": False}]))
               for pod in operators(kube))  # fmt: skip
