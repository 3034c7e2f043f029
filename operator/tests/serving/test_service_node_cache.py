"""Models on the nodes: what the pods get, what is said while the model comes and when it can't, and who forbids it."""

from typing import Any

import pytest
from apiserver import ApiServer
from manifest_builders import desired
from serving_builders import NEW, at, loading, pod, revision, spec

from lmforge_api.inspection import Inspection
from lmforge_operator.kinds.inferenceservice.model import find_model
from lmforge_operator.kinds.inferenceservice.observe import owner_of
from lmforge_operator.kube import projections
from lmforge_operator.serving import inspection
from lmforge_operator.serving.inspection import Look
from lmforge_operator.serving.observed import ReplicaSeen, read_replicas
from lmforge_operator.serving.trouble import Struggle, first_finding, given_up
from lmforge_operator.settings import Images, NodeCache, Settings

Manifest = dict[str, Any]
FOLDER = "/var/lib/lmforge/models"
SETTINGS = Settings(node_cache=NodeCache(path=FOLDER), images=Images(serve="serve:1"))
URI = "s3://bucket/team/tiny"
ON_NODES: Manifest = {"model": {"uri": URI}, "cache": {"nodeLocal": True}}
PLACE = inspection.place(spec(**ON_NODES))
DIRECTORY, NAME = PLACE.removeprefix("file:///mnt/node-cache/").split("/")
FOUND = Look(begun=True, found=Inspection(format="HuggingFace", size_bytes=2**20))


def template(**changes: Any) -> Manifest:
    found: Manifest = desired(settings=SETTINGS, **{**ON_NODES, **changes}).revision(replicas=1)["spec"]
    return found


def pod_spec(**changes: Any) -> Manifest:
    found: Manifest = template(**changes)["template"]["spec"]
    return found


def mounts(container: Manifest) -> list[Manifest]:
    return [each for each in container["volumeMounts"] if each["name"] == "node-cache"]


def test_a_container_brings_the_model_to_the_nodes_folder_before_the_engine_starts() -> None:
    found = pod_spec(template={"envFrom": ["keys"]})
    (fetcher,) = found["initContainers"]
    assert {"name": "node-cache", "hostPath": {"path": FOLDER, "type": "DirectoryOrCreate"}} in found["volumes"]
    assert fetcher["image"] == "serve:1"
    assert fetcher["command"][2:] == [
        "lmforge_workloads.serve.node_cache", "--uri", URI,
        "--path", f"/mnt/node-cache/default/{DIRECTORY}/tiny", "--folder", FOLDER,
    ]  # fmt: skip
    assert mounts(fetcher) == [{"name": "node-cache", "mountPath": "/mnt/node-cache"}]
    assert fetcher["envFrom"] == [{"secretRef": {"name": "keys"}}]
    assert fetcher["securityContext"]["readOnlyRootFilesystem"]
    assert found["securityContext"]["runAsNonRoot"]


def test_the_engine_sees_its_own_model_and_can_not_write_to_it() -> None:
    (engine,) = pod_spec()["containers"]
    assert mounts(engine) == [
        {
            "name": "node-cache",
            "mountPath": f"/mnt/node-cache/{DIRECTORY}",
            "subPath": f"default/{DIRECTORY}",
            "readOnly": True,
        }
    ]
    assert f"--model /mnt/node-cache/{DIRECTORY}/tiny" in " ".join(engine["command"])


def test_every_pod_of_a_group_brings_it_to_its_own_node() -> None:
    group = template(nodes=2, parallelism={"tensor": 2})["leaderWorkerTemplate"]
    leader, follower = (group[each]["spec"]["initContainers"] for each in ("leaderTemplate", "workerTemplate"))
    assert leader == follower != []


def test_without_it_pods_have_no_folder_of_the_node() -> None:
    found = pod_spec(model={"uri": "pvc://models/tiny"}, cache=None)
    assert "initContainers" not in found
    assert not [volume for volume in found["volumes"] if "hostPath" in volume]


def test_another_folder_is_another_revision() -> None:
    names = {
        desired(settings=Settings(node_cache=NodeCache(path=path)), **ON_NODES).revision(replicas=1)["metadata"]["name"]
        for path in ("/a", "/b")
    }
    assert len(names) == 2


def test_the_model_is_looked_at_where_it_is_before_any_node_gets_it() -> None:
    owner = owner_of({"metadata": {"namespace": "default", "name": "chat", "uid": "u"}})
    asked = spec(**ON_NODES, template={"envFrom": ["keys"]})
    looker = inspection.job(owner, asked, SETTINGS)["spec"]["template"]["spec"]
    (container,) = looker["containers"]
    assert container["command"] == ["python", "-m", "lmforge_workloads.serve.outline", "--uri", URI]
    assert [volume["name"] for volume in looker["volumes"]] == ["tmp"]
    assert container["envFrom"] == [{"secretRef": {"name": "keys"}}]


def found(look: Look, **changes: Any) -> Any:
    return find_model(spec(**ON_NODES), None, lambda kind, name: None, lambda claim: True, look, **changes)


def test_it_is_served_once_it_was_looked_at() -> None:
    assert found(Look()).inspect
    assert found(Look(begun=True)).waiting_for == f"the files of {URI} are being looked at"
    assert (found(FOUND).uri, found(FOUND).format, found(FOUND).waiting_for) == (PLACE, "HuggingFace", "")


def test_that_the_administrator_has_set_no_folder_is_said() -> None:
    model = found(FOUND, has_node_cache=False)
    assert (model.reason, model.inspect) == ("NodeCacheOff", False)
    assert model.waiting_for == (
        "cache.nodeLocal keeps models in a folder of the nodes, and none is set: have the administrator set "
        "nodeCache.path in LMForge's chart (e.g. /var/lib/lmforge/models), or write cache.claim"
    )


def seen(fetcher: Manifest, *, restarts: int = 0, engine: Manifest | None = None) -> ReplicaSeen:
    """A pod of node-1 whose containers are in these states, as the cache has it."""
    labels = {"lmforge.dev/role": "engine", "lmforge.dev/revision": NEW}
    status = {
        "phase": "Pending",
        "initContainerStatuses": [
            {"name": "istio-init", "state": {"terminated": {"exitCode": 0, "finishedAt": "2026-01-02T03:00:00Z"}}},
            {"name": "fetcher", "restartCount": restarts, "image": "serve:1", **fetcher},
        ],
        "containerStatuses": [{"name": "engine", "restartCount": 0, "state": engine or {"waiting": {}}}],
    }
    meta = {"name": "p", "namespace": "default", "labels": labels, "creationTimestamp": "2026-01-02T03:04:05Z"}
    manifest = {"metadata": meta, "spec": {"nodeName": "node-1"}, "status": status}
    (replica,) = read_replicas([projections.pod(manifest)])
    return replica


FULL = f"folder {FOLDER} has 3 MiB left"
RUNS = {"state": {"running": {"startedAt": "2026-01-02T03:04:06Z"}}}
FAILED = {
    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    "lastState": {"terminated": {"exitCode": 69, "message": FULL}},
}
DONE = {"state": {"terminated": {"exitCode": 0, "finishedAt": "2026-01-02T03:05:00Z"}}}


def struggle(*pods: ReplicaSeen, deadline: float = 60, now: float = 100, **changes: Any) -> Struggle:
    return Struggle(revision(NEW, *pods, **changes), at(now), deadline)


WORDS = {
    "it comes": (struggle(seen(RUNS)), "Fetching",
                 "0 of 1 replicas are ready; 1 pod waits until the model has come to the disk of node-1"),
    "it comes to two nodes": (
        struggle(seen(RUNS), seen(RUNS), loading(fetches=True, node="node-2")), "Fetching",
        "0 of 3 replicas are ready; 3 pods wait until the model has come to the disks of node-1, node-2",
    ),
    "it can't come": (struggle(seen(FAILED, restarts=2)), "FetchFailed",
                      f"pod p can't bring the model to node node-1 (2 times): {FULL}"),
    "it is there": (struggle(seen(DONE, engine={"running": {}})), "Loading",
                    "0 of 1 replicas are ready; the model is being loaded"),
    "the engine ends": (
        struggle(seen(DONE, engine={"terminated": {"exitCode": 1, "message": "ValueError: no"}})), "CrashLoop",
        "pod p ends with exit code 1 (1 time): ValueError: no",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("seen", "reason", "message"), WORDS.values(), ids=WORDS)
def test_what_becomes_of_the_model_is_said(seen: Struggle, reason: str, message: str) -> None:
    told = first_finding(seen)
    assert told is not None
    assert (told.reason, told.message) == (reason, message)


GIVEN_UP = {
    "however long it comes": (struggle(seen(RUNS), now=10_000), None),
    "the deadline begins when it has come": (struggle(seen(DONE), now=110, deadline=60), None),
    "and then it counts": (struggle(seen(DONE), now=130, deadline=60), "DeadlineExceeded"),
    "what fails may be mended until the deadline": (struggle(seen(FAILED, restarts=9), now=50), None),
    "and not longer": (struggle(seen(FAILED, restarts=9), now=61), "FetchFailed"),
}


@pytest.mark.parametrize(("seen", "reason"), GIVEN_UP.values(), ids=GIVEN_UP)
def test_time_in_which_the_model_comes_is_not_the_engines(seen: Struggle, reason: str | None) -> None:
    found = given_up(seen)
    assert (found.reason if found else None) == reason


@pytest.mark.integration
@pytest.mark.parametrize("level", ["baseline", "restricted"])
def test_a_namespace_that_forbids_folders_of_the_node_is_named_with_the_way_out(
    api_server: ApiServer, level: str
) -> None:
    labels = {"pod-security.kubernetes.io/enforce": level}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"no-{level}", "labels": labels}}
    assert api_server.request("POST", "/api/v1/namespaces", namespace).ok
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": pod_spec()}
    reply = api_server.request("POST", f"/api/v1/namespaces/no-{level}/pods?dryRun=All", body)
    told = first_finding(struggle(replicas=1, refused=reply.message))
    assert told is not None
    assert told.message.startswith('the API server refuses pods: pods "p" is forbidden: violates PodSecurity')
    assert told.message.endswith(
        ". cache.nodeLocal needs hostPath volumes, which this namespace's Pod Security level forbids: have the "
        "administrator label the namespace pod-security.kubernetes.io/enforce=privileged, or write cache.claim"
    )


def test_a_ready_replica_waits_for_nothing() -> None:
    assert first_finding(struggle(pod())) is None
