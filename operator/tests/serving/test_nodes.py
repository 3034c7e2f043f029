"""Replicas of several pods: what each pod runs, who takes requests, and what is said when they don't come up."""

import ast
import os
import socket
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from manifest_builders import ARTIFACT, SHAPE, desired, found
from serving_builders import NEW, at, loading, pod, revision, serving, spec
from serving_builders import desired as desired_status

from lmforge_api.inferenceservice import GroupEnds, InferenceServiceStatus
from lmforge_operator import labels
from lmforge_operator.kinds.inferenceservice.observe import Children, observe
from lmforge_operator.kube import projections
from lmforge_operator.manifests import Manifest
from lmforge_operator.serving.decide import decide
from lmforge_operator.serving.engines.engine import UNNOTICED_SECONDS, Task
from lmforge_operator.serving.engines.openai import outlive
from lmforge_operator.serving.group_ends import with_ends
from lmforge_operator.serving.memory import Memory
from lmforge_operator.serving.trouble import Struggle, first_finding, given_up
from lmforge_operator.settings import Settings

TWO = {"nodes": 2, "parallelism": {"tensor": 2}}
GROUP = "--nnodes 2 --node-rank $(LWS_WORKER_INDEX) --distributed-executor-backend mp "
PLACE = "--master-addr $(LWS_LEADER_ADDRESS) --master-port 29501"


def pods(**changes: Any) -> tuple[Manifest, Manifest]:
    """Templates of the pod that takes requests and of the others."""
    template = desired(**{**TWO, **changes}).revision(replicas=3)["spec"]["leaderWorkerTemplate"]
    return template["leaderTemplate"], template["workerTemplate"]


def container(template: Manifest) -> Manifest:
    (only,) = template["spec"]["containers"]
    found: Manifest = only
    return found


def test_a_replica_of_several_pods_is_a_group_that_starts_and_fails_together() -> None:
    manifest = desired(**TWO).revision(replicas=3)
    group = manifest["spec"]["leaderWorkerTemplate"]
    assert (manifest["apiVersion"], manifest["kind"]) == ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet")
    assert (manifest["spec"]["replicas"], group["size"]) == (3, 2)
    assert group["restartPolicy"] == "RecreateGroupOnPodRestart"


def test_every_pod_of_a_group_runs_the_same_engine_and_only_the_first_one_a_server() -> None:
    leader, follower = (" ".join(container(each)["command"]) for each in pods())
    shared = (
        "--model /mnt/pvc/models/tiny --served-model-name chat --host 0.0.0.0 --port 8000 --shutdown-timeout 120 "
        f"--enable-scale-out --enforce-eager --tensor-parallel-size 2 {GROUP}{PLACE} --dtype auto "
        "--enable-prefix-caching"
    )
    assert leader == f"python -m vllm.entrypoints.openai.api_server {shared}"
    assert follower == f"python -m vllm.entrypoints.cli.main serve {shared} --headless"


def test_no_request_is_sent_to_a_follower() -> None:
    leader, follower = (each["metadata"]["labels"] for each in pods())
    command = desired(**TWO).router()["spec"]["template"]["spec"]["containers"][0]["command"]
    at_selector = command.index("--selector") + 1
    selector = dict(each.split("=") for each in command[at_selector : at_selector + 2])
    assert selector.items() <= leader.items()
    assert follower[labels.REVISION] == leader[labels.REVISION]
    assert follower[labels.ROLE] == labels.Role.FOLLOWER
    assert "ports" not in container(pods()[1])
    assert "readinessProbe" not in container(pods()[1])


def test_a_follower_stays_until_its_leader_has_finished_its_requests() -> None:
    template = pods(drainSeconds=60)[1]
    python, option, program, *arguments = container(template)["lifecycle"]["preStop"]["exec"]["command"]
    assert (python, option) == ("python", "-c")
    assert ast.parse(program)
    assert arguments == ["LWS_LEADER_ADDRESS", "8000", str(UNNOTICED_SECONDS), "60"]
    assert template["spec"]["terminationGracePeriodSeconds"] > 60 + UNNOTICED_SECONDS


def wait_for(port: int, *, seconds: str) -> subprocess.Popen[bytes]:
    """The follower's program, without its wait for the router."""
    command = outlive(Task("chat", "/models/tiny", spec()), host="LEADER", port=port)
    return subprocess.Popen([sys.executable, *command[1:5], "0", seconds], env={**os.environ, "LEADER": "127.0.0.1"})


def test_the_wait_for_a_leader_ends_when_it_stops_listening() -> None:
    with socket.create_server(("127.0.0.1", 0)) as leader:
        waiting = wait_for(leader.getsockname()[1], seconds="60")
        leader.accept()[0].close()
        leader.accept()[0].close()  # it asked twice: the first answer didn't end it
        assert waiting.poll() is None
    assert waiting.wait(timeout=30) == 0


def test_the_wait_for_a_leader_ends_with_the_time_that_it_has() -> None:
    with socket.create_server(("127.0.0.1", 0)) as leader:
        assert wait_for(leader.getsockname()[1], seconds="0.1").wait(timeout=30) == 0


def test_another_number_of_nodes_is_another_revision() -> None:
    one = desired().revision(replicas=1)["metadata"]["name"]
    names = {desired(nodes=n, parallelism={"tensor": n}).revision(replicas=1)["metadata"]["name"] for n in (2, 4)}
    assert len({one, *names}) == 3


def test_a_follower_is_no_replica_and_its_revision_is_there_until_it_is_gone() -> None:
    made = desired(**TWO).revision(replicas=0)
    made["metadata"] |= {"uid": "u", "creationTimestamp": "2026-01-02T03:04:05Z"}
    meta = {"namespace": "default", "creationTimestamp": "2026-01-02T03:04:05Z"}
    follower = {"metadata": {**meta, "name": "p-0-1", "labels": pods()[1]["metadata"]["labels"]}}
    manifest = {
        "metadata": {"namespace": "default", "name": "chat", "uid": "uid-1"},
        "spec": {"model": {"uri": "pvc://models/tiny"}, **TWO},
    }

    def seen(*existing: Manifest) -> Any:
        groups = [projections.leader_worker_set(made)]
        service = observe(
            manifest,
            children=Children(deployments=[], groups=groups, jobs=[], pods=list(existing), service=None),
            lookup=lambda kind, name: None,
            has_claim=lambda claim: True,
            memory=Memory(),
            settings=Settings(),
            now=at(0),
        )
        (revision,) = service.serving.revisions.values()
        return revision

    assert (seen(follower).nodes, len(seen(follower).pods), seen(follower).gone) == (2, 0, False)
    assert seen().gone


def group(*leaders: Any, followers: tuple[Any, ...] = (), deadline: float = 900, **changes: Any) -> Struggle:
    return Struggle(revision(NEW, *leaders, nodes=2, followers=followers, **changes), at(100), deadline)


FULL = "0/2 nodes are available: 2 Insufficient memory."
FINDINGS = {
    "no controller": (
        group(replicas=1),
        "NoPodsMade",
        f"LeaderWorkerSet {NEW} has no pods yet: look at its events, and whether its controller runs",
    ),
    "a follower that finds no place": (
        group(loading(), followers=(loading(number=1, started=False, unschedulable=FULL),)),
        "Unschedulable",
        "1 of 2 pods can't be scheduled: 0/2 nodes are available: 2 Insufficient memory. "
        "Lower resources (or nodes), or free a node",
    ),
    "a follower that ends": (
        group(loading(), followers=(loading(number=1, exit_code=1, words="ValueError: no such device"),)),
        "CrashLoop",
        f"pod {NEW}-1 ends with exit code 1 (1 time): ValueError: no such device",
    ),
    "loading": (
        group(loading(), followers=(pod(number=1),)),
        "Loading",
        "0 of 1 replicas are ready; the model is being loaded",
    ),
}


@pytest.mark.parametrize(("seen", "reason", "message"), FINDINGS.values(), ids=FINDINGS.keys())
def test_what_keeps_a_group_from_getting_ready_is_said(seen: Struggle, reason: str, message: str) -> None:
    found = first_finding(seen)
    assert found is not None
    assert (found.reason, found.message) == (reason, message)


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (group(loading(), deadline=80), "DeadlineExceeded"),  # made anew a moment ago, and not for the first time
        (group(loading(), deadline=120), None),
        (group(pod(), loading(number=1), deadline=80), None),
        (group(replicas=1, deadline=80), "NoPodsMade"),
    ],
)
def test_a_revision_whose_groups_are_made_anew_at_each_failure_is_given_up_by_its_own_age(
    seen: Struggle, reason: str | None
) -> None:
    found = given_up(seen)
    assert (found.reason if found else None) == reason


def life(uid: str, *, group: int = 0, follower: dict[str, Any] | None = None, **leader: Any) -> tuple[Any, Any]:
    """A group's leader and its follower, on their way, with these changes."""
    first = loading(name=f"{NEW}-{group}", uid=uid, **leader)
    return first, loading(name=f"{NEW}-{group}-1", uid=f"{uid}-1", **(follower or {}))


def ended(words: str, *, second: float = 90, code: int = 1, **changes: Any) -> dict[str, Any]:
    """A container that has been started anew, which is why its pod is on its way out."""
    last = {"last_words": words, "last_exit_code": code, "ended_at": at(second)}
    return {"restarts": 1, "deleting": True, **last, **changes}


def after(*lives: Any, replicas: int = 1) -> Any:
    """The revision as it is seen after it was seen with each of these, one after the other."""
    former: list[GroupEnds] = []
    for leader, follower in lives:
        seen = with_ends(revision(NEW, leader, nodes=2, followers=(follower,), replicas=replicas), former)
        former = [seen.ends] if seen.ends else []
    return seen


NO_DEVICE = ended("Traceback\nValueError: no such device")
LIVES = [life(f"u{number}", follower=NO_DEVICE) for number in range(3)]


def test_who_ended_why_and_how_often_outlives_the_pods() -> None:
    seen = after(*LIVES, life("u3"))
    found = first_finding(Struggle(seen, at(100), 900))
    assert found is not None
    assert (found.reason, found.message) == (
        "CrashLoop",
        f"pod {NEW}-0-1 ends with exit code 1 (3 times, all pods of its replica are made anew each time): "
        "ValueError: no such device",
    )


COUNTS = {
    "each life counts once, however often it is looked at": (after(LIVES[0], LIVES[0], LIVES[0]), 1),
    "a pod that only was deleted doesn't count": (after(life("u", deleting=True, exit_code=143)), 0),
    "a model that couldn't be fetched doesn't count": (after(life("u", fetches=True, **NO_DEVICE)), 0),
    "two pods of a life are one end": (after(life("u", follower=NO_DEVICE, **ended("lost"))), 1),
    "what ended and isn't started anew yet": (after(life("u", exit_code=1, words="x")), 1),
    "ready again": (after(*LIVES, (pod(name=f"{NEW}-0", uid="u3"), pod(name=f"{NEW}-0-1"))), 0),
    "not wanted any more": (with_ends(replace(after(*LIVES), replicas=0, ends=None), [after(*LIVES).ends]), 0),
}


@pytest.mark.parametrize(("seen", "count"), COUNTS.values(), ids=COUNTS)
def test_a_replicas_ends_are_counted_until_it_is_ready(seen: Any, count: int) -> None:
    assert (seen.ends.count if seen.ends else 0) == count


def test_the_pod_that_ended_first_is_the_one_to_tell() -> None:
    cause, effect = ended("ValueError: cause", second=90), ended("ConnectionError: effect", second=95)
    assert after(life("u", follower=cause, **effect)).ends.words == "ValueError: cause"
    assert after(life("u", follower=effect, **cause)).ends.words == "ValueError: cause"


def test_a_replica_that_is_killed_for_its_memory_is_told_what_helps() -> None:
    found = first_finding(Struggle(after(life("u", **ended("", code=137, last_exit_reason="OOMKilled"))), at(100), 900))
    assert found is not None
    assert found.reason == "OutOfMemory"
    assert "exit code 137, 1 time, all pods" in found.message


def test_a_revision_whose_groups_end_again_and_again_is_given_up_before_its_deadline() -> None:
    given = [given_up(Struggle(after(*LIVES[:count]), at(100), 900)) for count in (1, 2, 3)]
    assert [found.reason if found else None for found in given] == [None, None, "CrashLoop"]


def test_status_keeps_the_ends_and_the_next_look_goes_on_from_there() -> None:
    decision = decide(serving(after(*LIVES[:2])))
    kept = InferenceServiceStatus.model_validate(decision.status.wire()).group_ends
    (leader, follower), former = LIVES[2], revision("helpdesk-old", pod("helpdesk-old"))
    seen = with_ends(revision(NEW, leader, nodes=2, followers=(follower,), replicas=1), kept)
    rolled = decide(serving(former, seen, status=desired_status(1, current_revision="helpdesk-old"))).status
    assert rolled.failed_revision is not None
    assert "(3 times, all pods of its replica are made anew each time)" in rolled.message


def test_each_node_holds_its_part_of_weights_and_cache() -> None:
    done = {"status": {"phase": "Succeeded", "artifact": {**ARTIFACT, "shape": SHAPE}}}
    small = {"resources": {"cpu": "1", "memory": "1700Mi"}}
    assert "1 GiB" in found(done, **small).waiting_for
    assert found(done, **small, **TWO).waiting_for == ""
    less = {"resources": {"cpu": "1", "memory": "1500Mi"}}
    assert found(done, **less, **TWO).waiting_for == (
        "the model's files take 512 MiB on each of 2 nodes and the KV cache 1 GiB, but resources.memory is 1500Mi: "
        "raise it above their sum, or lower engineArgs.kvCache"
    )
