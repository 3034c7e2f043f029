"""As one with several replicas on a node I have their model fetched to it once, and am told why it can't be."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from e2e.bucket import Bucket, bucket
from e2e.cluster.native import NativeCluster
from e2e.cluster.paths import Paths
from e2e.lmforge import Kube, Manifest, install
from e2e.models import NAME as MODEL
from e2e.models import smollm2
from e2e.serving import inference_service

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

NAME = "near"
POD_USER = 65532
START = 300.0
"""Seconds that two engines may take to load on two busy cores."""
WEIGHTS = f"{MODEL}/model.safetensors"


@pytest.fixture(scope="module")
def folder(kube: Kube, images: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The nodes' folder: all nodes are on this machine, so there is one for all. Nobody may write to it yet."""
    folder = Path("/var/tmp") / tmp_path_factory.mktemp("nodes").name / "models"
    folder.mkdir(parents=True)
    install(kube, images, values=[f"nodeCache.path={folder}"])
    yield folder
    install(kube, images)
    subprocess.run(["rm", "-r", folder.parent], check=True)


@pytest.fixture(scope="module")
def store(cluster: NativeCluster, kube: Kube, paths: Paths) -> Iterator[Bucket]:
    """A bucket with the real model, where pods reach it: at the API server's address."""
    (endpoint,) = kube.within("default").get("endpointslice", "kubernetes")["endpoints"]
    with bucket(smollm2(paths).parent, address=endpoint["addresses"][0]) as store:
        yield store


def service(store: Bucket) -> Manifest:
    """Two replicas on one node."""
    env = [{"name": name, "value": value} for name, value in store.environment.items()]
    return inference_service(
        NAME,
        model={"uri": f"s3://bucket/{MODEL}"},
        cache={"nodeLocal": True},
        replicas=2,
        template={"env": env, "nodeSelector": {"kubernetes.io/hostname": "node-1"}},
    )


def test_two_replicas_of_a_node_fetch_the_model_once(kube: Kube, folder: Path, store: Bucket) -> None:
    kube.apply(service(store))
    said = kube.wait(f"isvc/{NAME}", lambda s: s.get("reason") == "FetchFailed", what="a closed folder", seconds=START)
    assert f"user {POD_USER} can't write to folder {folder} (Permission denied)" in said["message"]
    os.chown(folder, POD_USER, POD_USER)
    seen: list[str] = []

    def both(status: Manifest) -> bool:
        seen.append(str(status.get("reason")))
        return status.get("ready") == "2/2"

    status = kube.wait(f"isvc/{NAME}", both, what="two ready replicas", seconds=START)
    assert store.reads[WEIGHTS] == 1
    assert (status["model"]["format"], status["model"]["shape"]["layers"]) == ("HuggingFace", 30)
    pods = kube.items("pods", "-l", "lmforge.dev/role=engine")
    assert {pod["spec"]["nodeName"] for pod in pods} == {"node-1"}
    name = pods[0]["metadata"]["name"]
    (kept,) = folder.glob(f"{kube.namespace}/*/{MODEL}/model.safetensors")
    inside = f"/mnt/node-cache/{kept.parent.parent.name}"
    assert "Read-only file system" in kube(
        "exec", name, "-c", "engine", "--", "sh", "-c", f"touch {inside}/x 2>&1 || :"
    )
    assert kube("exec", name, "-c", "engine", "--", "ls", "/mnt/node-cache").split() == [kept.parent.parent.name]


def test_the_next_replica_finds_it_there(kube: Kube, folder: Path, store: Bucket) -> None:
    kube("delete", "pods", "-l", "lmforge.dev/role=engine", "--wait=false")
    kube.wait(f"isvc/{NAME}", lambda s: s.get("ready") != "2/2", what="the loss of the replicas", seconds=60)
    kube.wait(f"isvc/{NAME}", lambda s: s.get("ready") == "2/2", what="two ready replicas again", seconds=START)
    assert store.reads[WEIGHTS] == 1
