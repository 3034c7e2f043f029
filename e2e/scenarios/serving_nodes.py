"""As one whose model fits on no single node I serve it on several: they answer as one, and fail and go as one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionUserMessageParam

from e2e.cluster.native import NativeCluster
from e2e.cluster.paths import Paths
from e2e.leader_worker_set import leader_worker_set
from e2e.lmforge import Kube, Manifest
from e2e.serving import inference_service, put_model, stream_while_deleting, way_in

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

NAME = "wide"
QUESTION: ChatCompletionUserMessageParam = {"role": "user", "content": "What is the capital of France?"}
START = 300.0
"""Seconds that two engines may take to load on two busy cores."""
KILL = (
    "import os, signal\n"
    "for name in os.listdir('/proc'):\n"
    "    if name.isdigit() and int(name) not in (1, os.getpid()):\n"
    "        os.kill(int(name), signal.SIGKILL)\n"
)
"""Ends all processes of a container but the pod's own first one."""
LONG = 100
"""Tokens of a stream that goes on while its replica is made anew."""


@pytest.fixture(scope="module")
def groups(cluster: NativeCluster) -> Iterator[None]:
    """LeaderWorkerSet is installed."""
    with leader_worker_set(cluster):
        yield


@pytest.fixture(scope="module")
def client(kube: Kube, paths: Paths, groups: None) -> Iterator[OpenAI]:
    """The official one, of a service whose replica is three pods, each with three of nine heads; Ready."""
    put_model(kube, paths)
    kube.apply(inference_service(NAME, nodes=3, parallelism={"tensor": 3}, gateway={}, drainSeconds=120))
    until_ready(kube)
    with way_in(kube, NAME) as url:
        yield OpenAI(base_url=url, api_key="none", timeout=START, max_retries=0)


def until_ready(kube: Kube) -> Manifest:
    return kube.wait(f"isvc/{NAME}", lambda s: s.get("phase") == "Ready", what="a ready replica", seconds=START)


def leader(kube: Kube) -> Manifest:
    """The pod that takes requests."""
    (only,) = pods(kube, "engine")
    return only


def pods(kube: Kube, role: str) -> list[Manifest]:
    """Those of that role that aren't on their way out."""
    found = kube.items("pods", "-l", f"lmforge.dev/role={role}")
    return [each for each in found if "deletionTimestamp" not in each["metadata"]]


def test_three_pods_on_two_nodes_answer_as_one(kube: Kube, client: OpenAI) -> None:
    whole = client.chat.completions.create(model=NAME, messages=[QUESTION], temperature=0, max_tokens=40)
    assert "Paris" in (whole.choices[0].message.content or "")
    status = kube.status(f"isvc/{NAME}")
    assert (status["ready"], status["replicas"]["total"]) == ("1/1", 1)
    followers = pods(kube, "engine-follower")
    assert len(followers) == 2
    assert len({each["spec"]["nodeName"] for each in (leader(kube), *followers)}) == 2


def test_a_stream_reaches_its_end_when_one_of_its_pods_is_deleted_and_the_replica_comes_back(
    kube: Kube, client: OpenAI
) -> None:
    former = leader(kube)["metadata"]["uid"]
    follower = pods(kube, "engine-follower")[0]["metadata"]["name"]
    ended = stream_while_deleting(kube, client, model=NAME, pod=follower, tokens=LONG)
    assert ended == ("length", LONG)
    kube.wait(f"isvc/{NAME}", lambda s: s.get("phase") != "Ready", what="the loss of the replica", seconds=60)
    until_ready(kube)
    assert leader(kube)["metadata"]["uid"] != former
    assert client.completions.create(model=NAME, prompt="Hello", max_tokens=2).usage


def test_a_killed_process_takes_its_replica_with_it_and_the_replica_comes_back(kube: Kube, client: OpenAI) -> None:
    former = leader(kube)["metadata"]["uid"]
    name = pods(kube, "engine-follower")[0]["metadata"]["name"]
    kube("exec", name, "--", "python", "-c", KILL)
    kube.wait(f"isvc/{NAME}", lambda s: s.get("phase") != "Ready", what="the loss of the replica", seconds=60)
    until_ready(kube)
    assert leader(kube)["metadata"]["uid"] != former
    assert client.completions.create(model=NAME, prompt="Hello", max_tokens=2).usage
