"""TrainingJobs in the queues of the real Kueue: what they wait for, and what becomes of those that it takes back.

Everything but the pods is real: API server, scheduler, Job controller, Kueue's manager with its webhooks, the operator.
KWOK plays the pods, which save a checkpoint at step 120 when they are told to go.
"""

import json
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.bench.control_plane_world import NAMESPACE, Operator, control_plane
from e2e.cluster import binaries
from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.shell import wait_for
from e2e.kueue import KUEUE, kueue

pytestmark = pytest.mark.integration

Manifest = dict[str, Any]

STAGES = Path(__file__).with_name("queueing_stages.yaml")
RUNS = count(1)
CPUS = 2
"""Of each queue's quota; a run takes as many."""

KINDS = """
apiVersion: kueue.x-k8s.io/v1beta2
kind: ResourceFlavor
metadata: {name: any}
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: urgent}
value: 1000
"""
QUEUE = """
apiVersion: kueue.x-k8s.io/v1beta2
kind: ClusterQueue
metadata: {name: %(name)s}
spec:
  namespaceSelector: {}
  preemption: {withinClusterQueue: LowerPriority}
  resourceGroups:
  - coveredResources: [cpu, memory]
    flavors:
    - name: any
      resources: [{name: cpu, nominalQuota: %(cpus)d}, {name: memory, nominalQuota: 1Ti}]
---
apiVersion: kueue.x-k8s.io/v1beta2
kind: LocalQueue
metadata: {name: %(name)s, namespace: %(namespace)s}
spec: {clusterQueue: %(name)s}
"""


class World:
    """What a test does and sees, in the words of kubectl."""

    def __init__(self, running: ControlPlane, operator_log: Path) -> None:
        self.kubectl = running.kubectl
        self._log = operator_log

    def apply(self, manifest: str) -> None:
        self.kubectl("apply", "-f", "-", stdin=manifest)

    def queue(self, name: str) -> None:
        self.apply(QUEUE % {"name": name, "namespace": NAMESPACE, "cpus": CPUS})

    def train(self, queue: str, **scheduling: str) -> str:
        """A TrainingJob of two pods; gives its name."""
        name = f"run-{next(RUNS)}"
        spec = {
            "model": {"init": {"architecture": "llama", "layers": 2, "hiddenSize": 64, "heads": 2}},
            "dataset": {"uri": "s3://corpus/text.jsonl"},
            "nodes": 2,
            "parallelism": {"data": 2},
            "steps": 400,
            "scheduling": {"queue": queue, **scheduling},
        }
        metadata = {"name": name, "namespace": NAMESPACE}
        self.apply(
            yaml.safe_dump(
                {"apiVersion": "lmforge.dev/v1alpha1", "kind": "TrainingJob"} | {"metadata": metadata, "spec": spec}
            )
        )
        return name

    def items(self, resource: str, *more: str) -> list[Manifest]:
        found: list[Manifest] = json.loads(self.kubectl("get", resource, *more, "-n", NAMESPACE, "-o", "json"))["items"]
        return found

    def status(self, name: str) -> Manifest:
        found: Manifest = json.loads(self.kubectl("get", "tj", name, "-n", NAMESPACE, "-o", "json"))
        return found.get("status") or {}

    def until(self, name: str, reached: Callable[[Manifest], bool], *, what: str) -> Manifest:
        """Waits for a status, and gives it."""
        seen: list[Manifest] = []

        def holds() -> bool:
            seen.append(self.status(name))
            return reached(seen[-1])

        wait_for(
            holds, what=f"{name}: {what}", seconds=30, details=lambda: f"{seen[-1]}\n{self._log.read_text()[-3000:]}"
        )
        return seen[-1]

    def waits(self, name: str, *, reason: str = "Queued", words: str) -> Manifest:
        return self.until(
            name,
            lambda status: (
                (status.get("phase"), status.get("reason")) == ("Pending", reason) and words in status["message"]
            ),
            what=f"waits: {words}",
        )

    def pods_run(self, name: str, *, attempt: int = 1) -> Manifest:
        """Its queue has let this attempt start."""
        return self.until(
            name,
            lambda status: (
                (status.get("phase"), len(status.get("attempts", ()))) == ("Starting", attempt)
                and "all pods have started" in status["message"].lower()
            ),
            what=f"pods of attempt {attempt}",
        )

    def finish(self, name: str) -> None:
        """Its pods end well."""
        ended = {"containerStatuses": [{**CONTAINER, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}
        patch = json.dumps({"status": {"phase": "Succeeded", **ended}})
        pods = self.kubectl("get", "pods", "-n", NAMESPACE, "-l", f"lmforge.dev/name={name}", "-o", "name").split()
        for pod in pods:
            self.kubectl("patch", "-n", NAMESPACE, pod, "--subresource=status", "--type=merge", "-p", patch)
        self.until(name, lambda status: status.get("phase") == "Succeeded", what="success")

    def stop(self, queue: str, policy: str) -> None:
        patch = json.dumps({"spec": {"stopPolicy": policy}})
        self.kubectl("patch", "clusterqueue", queue, "--type=merge", "-p", patch)


CONTAINER = {"name": "workload", "image": "played", "imageID": "", "ready": False, "restartCount": 0}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Everything is up."""
    folder = tmp_path_factory.mktemp("kueue")
    with control_plane(folder, unlimited=True, stages=STAGES) as running, kueue(running, folder / "kueue"):
        operator = Operator(running.kubeconfig, folder)
        operator.start()
        try:
            found = World(running, folder / "operator.log")
            found.apply(KINDS)
            yield found
        finally:
            operator.stop()


def test_a_run_waits_for_quota_and_starts_when_the_one_before_it_ends(world: World) -> None:
    world.queue("turns")
    first = world.train("turns")
    world.pods_run(first)
    second = world.train("turns")
    status = world.waits(second, words="Waits for quota in queue turns: couldn't assign flavors to pod set main")
    assert "insufficient unused quota for cpu in flavor any" in status["message"]
    assert status["attempts"][0]["queue"] == "turns"
    assert "admittedAt" not in status["attempts"][0]
    world.finish(first)
    status = world.pods_run(second)
    assert status["attempts"][0]["admittedAt"]


def test_a_run_that_is_preempted_saves_its_work_and_goes_on_later(world: World) -> None:
    world.queue("ranks")
    humble = world.train("ranks")
    world.pods_run(humble)
    urgent = world.train("ranks", priorityClassName="urgent")
    status = world.waits(humble, words="Attempt 1 ended at step 120: queue ranks took the pods back (Preempted)")
    assert "due to prioritization in the ClusterQueue" in status["message"]
    assert "Waits for quota in queue ranks" in status["message"]
    assert status["message"].endswith("It goes on from step 120 then.")
    first, second = status["attempts"]
    assert (first["outcome"], first["reason"], first["counted"]) == ("Suspended", "Preempted", False)
    assert (second["startStep"], status["restarts"], status["checkpoint"]["step"]) == (120, 0, 120)
    world.pods_run(urgent)
    world.finish(urgent)
    world.pods_run(humble, attempt=2)


def test_what_a_stopped_queue_took_back_waits_for_the_queue_and_not_in_it(world: World) -> None:
    world.queue("stops")
    run = world.train("stops")
    world.pods_run(run)
    world.stop("stops", "HoldAndDrain")
    status = world.waits(run, reason="Evicted", words="Queue stops took the pods back (ClusterQueueStopped)")
    assert len(status["attempts"]) == 1
    world.stop("stops", "None")
    status = world.pods_run(run, attempt=2)
    assert (status["restarts"], status["attempts"][0]["outcome"]) == (0, "Suspended")


def test_a_queue_that_does_not_exist_is_said_and_waited_for(world: World) -> None:
    run = world.train("typo")
    world.waits(run, reason="QueueMissing", words="LocalQueue typo doesn't exist in this namespace")
    world.queue("typo")
    world.pods_run(run)


def test_suspending_a_run_gives_its_quota_to_the_next(world: World) -> None:
    world.queue("yields")
    first = world.train("yields")
    world.pods_run(first)
    second = world.train("yields")
    world.waits(second, words="Waits for quota in queue yields")
    world.kubectl("patch", "tj", first, "-n", NAMESPACE, "--type=merge", "-p", '{"spec": {"suspend": true}}')
    world.pods_run(second)
    assert world.status(first)["phase"] == "Suspended"


def test_a_gang_has_a_pod_group_that_the_coscheduling_plug_in_knows(world: World) -> None:
    """By its real definition; the plug-in itself is not there, so that the default scheduler places the pods."""
    definitions = binaries.files_of("sigs.k8s.io/scheduler-plugins", program=KUEUE.program) / "config" / "crd" / "bases"
    world.kubectl("apply", "--server-side", "-f", definitions / "scheduling.x-k8s.io_podgroups.yaml")
    world.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd/podgroups.scheduling.x-k8s.io")
    world.queue("gangs")
    run = world.train("gangs", gang="coscheduling")
    world.pods_run(run)
    (group,) = world.items("podgroups.scheduling.x-k8s.io")
    assert group["spec"] == {"minMember": 2}
    pods = world.items("pods", "-l", f"lmforge.dev/name={run}")
    names = [pod["metadata"]["labels"]["scheduling.x-k8s.io/pod-group"] for pod in pods]
    assert names == 2 * [group["metadata"]["name"]]
