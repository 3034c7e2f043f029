"""An attempt as Kubernetes objects."""

import json
from typing import Any

import pytest

from lmforge_api.run import TrainingRun
from lmforge_operator.errors import UserError
from lmforge_operator.inputs.uris import claims_of, in_pod
from lmforge_operator.kinds.trainingjob.desired import launch
from lmforge_operator.kinds.trainingjob.observe import Training, observe
from lmforge_operator.runs import launch as objects
from lmforge_operator.runs.launch import Launch
from lmforge_operator.settings import Settings
from tests.runs.builders import attempt, seen, spec

JOB = {"metadata": {"name": "tiny-tj-2", "uid": "job-uid"}}
REPORTS = {"reports": {"serviceUrl": "https://lmforge-reports.lmforge-system.svc:8443"}}


def training(**changes: Any) -> Training:
    """A TrainingJob named tiny in namespace ml."""
    manifest = {
        "kind": "TrainingJob",
        "metadata": {"name": "tiny", "namespace": "ml", "uid": "12345678-aaaa", "generation": 1},
        "spec": spec(**changes).wire(),
    }
    return observe(manifest, seen(), image="train:1")


def launched(settings: dict[str, Any] | None = None, **changes: Any) -> Launch:
    """Its second attempt."""
    return launch(training(**changes), attempt(2), Settings.model_validate(settings or REPORTS), reports_ca="PEM")


def container(**changes: Any) -> dict[str, Any]:
    """The container of its pods."""
    found = objects.job(launched(**changes))["spec"]["template"]["spec"]["containers"][0]
    assert isinstance(found, dict)
    return found


def test_an_attempt_is_an_indexed_job_that_one_failed_pod_ends() -> None:
    job = objects.job(launched())
    assert job["metadata"]["name"] == "tiny-tj-2"
    wanted = {"completions": 2, "parallelism": 2, "completionMode": "Indexed", "backoffLimit": 0}
    assert {key: job["spec"][key] for key in wanted} == wanted
    assert job["metadata"]["ownerReferences"][0]["uid"] == "12345678-aaaa"


def test_pods_run_as_nobody_in_particular_without_rights_or_api_token() -> None:
    pod = objects.job(launched())["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_token_that_pods_report_with_is_made_for_this_object_alone() -> None:
    volumes = {v["name"]: v for v in objects.job(launched())["spec"]["template"]["spec"]["volumes"]}
    token = volumes["token"]["projected"]["sources"][0]["serviceAccountToken"]
    assert token["audience"] == "lmforge.dev/trainingjobs/ml/tiny"


def test_pods_read_one_configuration_which_goes_with_its_job() -> None:
    config = objects.config_map(launched(), JOB)
    assert config["metadata"]["ownerReferences"][0]["uid"] == "job-uid"
    run = TrainingRun.model_validate_json(config["data"]["run.json"])
    assert (run.attempt, run.nodes, run.processes_per_node, run.data_parallel) == (2, 2, 1, 2)
    assert run.rendezvous.host == "tiny-tj-2-0.tiny-tj.ml.svc"
    assert run.dataset_path == "file:///mnt/pvc/corpus/docs"
    assert run.store.root == "/mnt/store/trainingjob/ml/tiny-12345678"
    assert run.store.uri == "pvc://lmforge-store/trainingjob/ml/tiny-12345678"
    assert run.progress is not None
    assert run.progress.url.endswith("/v1/progress/trainingjobs/ml/tiny")


def test_accelerators_are_asked_for_by_name_and_one_process_runs_on_each() -> None:
    resources = {"accelerator": "nvidia.com/gpu", "count": 4, "memory": "64Gi"}
    wanted = {"parallelism": {"data": 8}, "batch": {"global": 8}, "resources": resources}
    assert container(**wanted)["resources"]["limits"] == {"memory": "64Gi", "nvidia.com/gpu": "4"}
    run = json.loads(objects.config_map(launched(**wanted), JOB)["data"]["run.json"])
    assert run["processesPerNode"] == 4


@pytest.mark.parametrize(
    ("scheduling", "expected"),
    [
        ({"gang": "none"}, None),
        ({"gang": "coscheduling"}, ("scheduling.x-k8s.io/v1alpha1", {"minMember": 2})),
        (
            {"gang": "volcano", "priorityClassName": "high"},
            ("scheduling.volcano.sh/v1beta1", {"minMember": 2, "priorityClassName": "high"}),
        ),
    ],
    ids=["none", "coscheduling", "volcano"],
)
def test_a_gang_is_a_pod_group_of_all_pods(
    scheduling: dict[str, str], expected: tuple[str, dict[str, Any]] | None
) -> None:
    group = objects.pod_group(launched(scheduling=scheduling), JOB)
    assert (group and (group["apiVersion"], group["spec"])) == expected
    if group:
        template = objects.job(launched(scheduling=scheduling))["spec"]["template"]["metadata"]
        named = {**template["labels"], **template["annotations"]}
        assert group["metadata"]["name"] in named.values()


def test_a_queue_gets_the_job_suspended_to_let_it_go_itself() -> None:
    job = objects.job(launched(scheduling={"queue": "research"}))
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research"
    assert job["spec"]["suspend"] is True


def test_overrides_reach_the_pods_but_not_what_the_run_needs() -> None:
    template = {
        "image": "mine:2",
        "labels": {"team": "a", "lmforge.dev/attempt": "99"},
        "env": [{"name": "NCCL_DEBUG", "value": "INFO"}],
        "nodeSelector": {"gpu": "h200"},
        "imagePullSecrets": ["registry"],
    }
    pod = objects.job(launched(template=template))["spec"]["template"]
    assert pod["metadata"]["labels"]["team"] == "a"
    assert pod["metadata"]["labels"]["lmforge.dev/attempt"] == "2"
    assert pod["spec"]["nodeSelector"] == {"gpu": "h200"}
    assert pod["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    assert (pod["spec"]["containers"][0]["image"], pod["spec"]["containers"][0]["env"]) == (
        "mine:2",
        [{"name": "NCCL_DEBUG", "value": "INFO"}],
    )


def test_inputs_on_the_store_need_no_mount_of_their_own() -> None:
    uris = ["pvc://corpus/a", "pvc://lmforge-store/trainingjob/ml/base/artifact", "pvc://corpus/b", "s3://bucket/c"]
    assert claims_of(uris, store_claim="lmforge-store") == ("corpus",)
    place = {"store_claim": "lmforge-store", "store_mount": "/mnt/store"}
    assert in_pod(uris[1], **place) == "file:///mnt/store/trainingjob/ml/base/artifact"
    assert in_pod(uris[0], **place) == "file:///mnt/pvc/corpus/a"
    assert in_pod(uris[3], **place) == "s3://bucket/c"


def test_a_path_that_leaves_its_claim_is_refused() -> None:
    with pytest.raises(UserError, match="leaves its claim"):
        in_pod("pvc://corpus/../other", store_claim="s", store_mount="/m")
