"""What a service's children are made of: the engine's command line, its probes and rights, the router, the gateway."""

import ast
import json
from dataclasses import replace
from typing import Any

import pytest
from manifest_builders import SETTINGS, command, desired, engine, variables
from serving_builders import revision

from lmforge_api.gateway_run import GatewayRun
from lmforge_operator.manifests import Manifest
from lmforge_operator.settings import Images


def test_vllm_on_cpu_serves_a_claims_directory_under_the_services_name() -> None:
    assert command() == (
        "python -m vllm.entrypoints.openai.api_server --model /mnt/pvc/models/tiny --served-model-name chat "
        "--host 0.0.0.0 --port 8000 --shutdown-timeout 120 --enable-scale-out --enforce-eager --dtype auto "
        "--enable-prefix-caching"
    )
    assert variables()["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert variables()["HF_HUB_OFFLINE"] == "1"


def test_replicas_on_cpu_share_a_nodes_cores_as_they_asked_for_them() -> None:
    assert variables()["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    threads = {cpu: variables(resources={"cpu": cpu})["OMP_NUM_THREADS"] for cpu in ("200m", "1", "3500m", "16")}
    assert threads == {"200m": "1", "1": "1", "3500m": "4", "16": "16"}


def test_errors_become_last_words_in_our_images_alone() -> None:
    assert variables()["VLLM_LOGGING_CONFIG_PATH"] == "/opt/lmforge/vllm-logging.json"
    assert "VLLM_LOGGING_CONFIG_PATH" not in variables(template={"image": "somebody/vllm:1"})


ARGUMENTS: dict[str, tuple[Manifest, str]] = {
    "a hub's model": ({"model": {"uri": "hf://org/name@v2"}}, "--model org/name --revision v2 --served"),
    "an image's model": ({"model": {"uri": "file:///models/tiny"}}, "--model /models/tiny --served"),
    "a context": ({"engineArgs": {"maxModelLen": 2048}}, "--max-model-len 2048"),
    "no prefix caching": ({"engineArgs": {"prefixCaching": False}}, "--no-enable-prefix-caching"),
    "no chunks": ({"engineArgs": {"chunkedPrefill": False}}, "--no-enable-chunked-prefill"),
    "more arguments": (
        {"engineArgs": {"extra": {"max-num-seqs": "64", "disable-log-stats": ""}}},
        "--disable-log-stats --max-num-seqs 64",
    ),
    "accelerators": (
        {
            "resources": {"accelerator": "nvidia.com/gpu", "count": 4},
            "parallelism": {"tensor": 2, "pipeline": 2},
            "engineArgs": {"gpuMemoryUtilization": 0.9},
        },
        "--tensor-parallel-size 2 --pipeline-parallel-size 2 --dtype auto --enable-prefix-caching "
        "--gpu-memory-utilization 0.9",
    ),
}


@pytest.mark.parametrize(("changes", "expected"), ARGUMENTS.values(), ids=ARGUMENTS.keys())
def test_what_the_spec_says_is_said_to_vllm(changes: Manifest, expected: str) -> None:
    assert expected in command(**changes)


def test_guessed_tokens_are_told_as_json() -> None:
    arguments = engine(engineArgs={"speculative": {"tokens": 5, "lookup": 4}})["command"]
    told = json.loads(arguments[arguments.index("--speculative-config") + 1])
    assert told == {"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_max": 4}


def test_an_accelerator_gets_the_build_for_it_and_needs_neither_eager_mode_nor_a_cpu_cache() -> None:
    gpu: Manifest = {"resources": {"accelerator": "nvidia.com/gpu", "count": 1}}
    assert (engine()["image"], engine(**gpu)["image"]) == ("vllm:1", "vllm-cuda:1")
    assert "--enforce-eager" not in command(**gpu)
    assert "VLLM_CPU_KVCACHE_SPACE" not in variables(**gpu)
    assert engine(**gpu)["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_a_hubs_model_may_be_asked_for_and_the_users_variables_win() -> None:
    told = variables(model={"uri": "hf://org/name"}, template={"env": [{"name": "HF_HOME", "value": "/cache"}]})
    assert "HF_HUB_OFFLINE" not in told
    assert told["HF_HOME"] == "/cache"


def test_an_engine_may_do_nothing_but_serve() -> None:
    pod = desired(drainSeconds=60).revision(replicas=1)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    writable = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
    assert writable == ["/dev/shm", "/tmp"]
    places = [
        value for name, value in variables().items() if value.startswith("/") and not name.endswith("CONFIG_PATH")
    ]
    assert all(place.startswith("/tmp") for place in places)


def test_an_engine_has_time_for_its_requests_before_it_is_killed() -> None:
    pod = desired(drainSeconds=60).revision(replicas=1)["spec"]["template"]["spec"]
    assert pod["shareProcessNamespace"] is True  # one that still loads goes at once
    sleeps = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= sleeps + 60 + 10


def test_an_engine_is_ready_only_after_it_has_answered_once() -> None:
    probe = engine()["startupProbe"]
    program, *arguments = probe["exec"]["command"][2:]
    assert ast.parse(program)
    assert arguments == ["http://127.0.0.1:8000", "chat"]
    assert probe["timeoutSeconds"] * probe["failureThreshold"] > 900


SAME: dict[str, Manifest] = {
    "replicas": {"replicas": 3},
    "autoscaling": {"autoscaling": {"maxReplicas": 3}},
    "router": {"router": {"policy": "round_robin"}},
    "gateway": {"gateway": {}},
    "rollout": {"rollout": {"surge": 2, "readyDeadlineSeconds": 60}},
    "stopped": {"stopped": True},
}
OTHER: dict[str, Manifest] = {
    "model": {"model": {"uri": "pvc://models/other"}},
    "arguments": {"engineArgs": {"maxModelLen": 512}},
    "resources": {"resources": {"memory": "8Gi"}},
    "template": {"template": {"labels": {"a": "b"}}},
    "drain": {"drainSeconds": 9},
}


def name(**changes: Any) -> str:
    return str(desired(**changes).revision(replicas=1)["metadata"]["name"])


@pytest.mark.parametrize("changes", SAME.values(), ids=SAME.keys())
def test_what_replicas_are_not_made_from_makes_no_new_revision(changes: Manifest) -> None:
    assert name(**changes) == name()


@pytest.mark.parametrize("changes", OTHER.values(), ids=OTHER.keys())
def test_what_replicas_are_made_from_makes_a_new_revision(changes: Manifest) -> None:
    assert name(**changes) != name()


LEGAL = {"name": "legal", "uri": "pvc://models/legal"}
TONE = {"name": "tone", "uri": "pvc://models/tone"}


def test_the_first_adapter_makes_a_new_revision_and_further_ones_do_not() -> None:
    assert name(adapters=[LEGAL]) != name()
    assert name(adapters=[LEGAL, TONE]) == name(adapters=[TONE]) == name(engineArgs={"lora": {}})
    assert name(adapters=[LEGAL], engineArgs={"lora": {"maxRank": 64}}) != name(adapters=[LEGAL])
    assert name(adapters=[LEGAL, {**TONE, "uri": "pvc://elsewhere/tone"}]) != name(adapters=[LEGAL])


def test_a_replica_with_room_for_adapters_mounts_where_they_lie_and_loads_them_before_it_is_ready() -> None:
    pod = desired(adapters=[LEGAL]).revision(replicas=1)["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert "--enable-lora --max-lora-rank 16 --max-loras 4 --max-cpu-loras 16" in " ".join(container["command"])
    assert variables(adapters=[LEGAL])["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    mounts = {mount["mountPath"] for mount in container["volumeMounts"] if mount.get("readOnly")}
    assert mounts == {"/mnt/pvc/models", "/mnt/pvc/lmforge-store", "/etc/lmforge-adapters"}
    program = container["startupProbe"]["exec"]["command"][2]
    assert ast.parse(program)
    assert program.index("/etc/lmforge-adapters/adapters.json") < program.index("/v1/completions")
    assert pod["metadata"]["labels"]["lmforge.dev/adapters"] == "true"
    config = desired(adapters=[LEGAL]).adapters()
    assert config is not None
    assert json.loads(config["data"]["adapters.json"]) == {"legal": "/mnt/pvc/models/legal"}
    assert desired().adapters() is None


def test_a_new_image_of_the_chart_is_a_new_revision() -> None:
    newer = SETTINGS.model_copy(update={"images": Images(vllm="vllm:2")})
    assert desired(settings=newer).revision(replicas=1)["metadata"]["name"] != name()


def test_the_router_finds_the_engines_of_every_revision_and_may_only_read_pods() -> None:
    wanted = desired()
    pod = wanted.router()["spec"]["template"]["spec"]
    arguments = " ".join(pod["containers"][0]["command"])
    assert "--selector lmforge.dev/owner-uid=uid-1 lmforge.dev/role=engine" in arguments
    assert "--service-discovery-namespace default --service-discovery-port 8000" in arguments
    assert pod["serviceAccountName"] == "chat-router"
    assert pod["automountServiceAccountToken"] is True
    account, role, binding = wanted.router_identity()
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
    assert binding["subjects"][0]["name"] == account["metadata"]["name"] == pod["serviceAccountName"]


ROUTED: dict[str, tuple[Manifest, str]] = {
    "a replica alone": ({}, "round_robin"),
    "several": ({"replicas": 2}, "cache_aware"),
    "perhaps several": ({"autoscaling": {"maxReplicas": 2}}, "cache_aware"),
    "never several": ({"autoscaling": {"minReplicas": 0, "maxReplicas": 1}}, "round_robin"),
    "an engine that doesn't tell tokens": (
        {"replicas": 2, "engine": "llamacpp", "model": {"uri": "pvc://models/tiny.gguf"}},
        "power_of_two",
    ),
    "another wish": ({"replicas": 2, "router": {"policy": "consistent_hash"}}, "consistent_hash"),
}


@pytest.mark.parametrize(("changes", "policy"), ROUTED.values(), ids=ROUTED.keys())
def test_engines_are_asked_for_a_prompts_tokens_only_where_that_helps_to_choose(changes: Manifest, policy: str) -> None:
    (container,) = desired(**changes).router()["spec"]["template"]["spec"]["containers"]
    assert container["command"][container["command"].index("--policy") + 1] == policy
    assert ("--enable-scale-out" in engine(**changes)["command"]) == ("llamacpp" not in changes.values())


def test_there_is_a_gateway_where_one_is_asked_for_or_a_service_may_sleep() -> None:
    assert desired().gateway() is None
    assert desired(gateway={}).gateway()
    assert desired(autoscaling={"minReplicas": 0, "maxReplicas": 1}).gateway()
    assert desired(autoscaling={"minReplicas": 1, "maxReplicas": 1}).gateway() is None
    assert desired(rollout={"canary": {}}).gateway()


def test_a_revisions_own_router_finds_its_replicas_alone_and_goes_with_it() -> None:
    wanted, seen = desired(rollout={"canary": {}}), replace(revision("chat-1234"), uid="uid-3")
    router, shared = wanted.router(seen), wanted.router()
    (container,) = router["spec"]["template"]["spec"]["containers"]
    selector = container["command"][container["command"].index("--selector") + 1 :][:3]
    assert selector == ["lmforge.dev/owner-uid=uid-1", "lmforge.dev/role=engine", "lmforge.dev/revision=chat-1234"]
    assert router["metadata"]["ownerReferences"][0]["uid"] == "uid-3"
    labels = router["spec"]["template"]["metadata"]["labels"]
    assert not labels.items() >= shared["spec"]["selector"]["matchLabels"].items()
    service = wanted.router_service({"metadata": {"name": "chat-1234-router", "uid": "uid-4"}}, "chat-1234")
    assert labels.items() >= service["spec"]["selector"].items()
    assert service["metadata"]["ownerReferences"][0]["uid"] == "uid-4"
    made = {"metadata": {"name": "chat-gateway", "uid": "uid-2"}}
    for upstream, found in (("", shared), ("chat-1234", router)):
        _, service = wanted.beside_gateway(made, upstream=upstream)
        assert found["spec"]["template"]["metadata"]["labels"].items() >= service["spec"]["selector"].items()


def test_a_gateway_stays_when_revisions_come_and_go() -> None:
    """What it hears of them comes in the answers to its reports."""
    one, other = desired(rollout={"canary": {}}), desired(rollout={"canary": {"gates": {"minRequests": 5}}})
    assert one.gateway() == other.gateway()


def test_a_gateway_is_told_where_the_router_is_and_where_to_say_what_it_holds() -> None:
    wanted = desired(gateway={"auth": {"secretName": "keys"}, "sessions": {"redis": {"secretName": "redis"}}})
    config, service = wanted.beside_gateway({"metadata": {"name": "chat-gateway", "uid": "uid-2"}})
    told = GatewayRun.model_validate_json(config["data"]["gateway.json"])
    assert told.upstream.url == f"http://{service['metadata']['name']}.default.svc:80"
    assert told.demand is not None
    assert told.demand.url == "https://reports:8443/v1/demand/inferenceservices/default/chat"
    assert config["data"]["ca.crt"] == "CA"
    deployment = wanted.gateway()
    assert deployment is not None
    pod = deployment["spec"]["template"]["spec"]
    mounts = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    for path in (told.keys_path, told.redis_url_path, told.demand.token_path, told.demand.ca_path):
        assert any(path == mount or path.startswith(f"{mount}/") for mount in mounts), path
    (token,) = [v for v in pod["volumes"] if "projected" in v]
    source = token["projected"]["sources"][0]["serviceAccountToken"]
    assert source["audience"] == "lmforge.dev/inferenceservices/default/chat"
    assert config["metadata"]["ownerReferences"][0]["uid"] == "uid-2"


def test_a_gateway_is_replaced_when_it_is_told_something_else_and_else_stays() -> None:
    def identity(**gateway: Any) -> str:
        made = desired(gateway=gateway).gateway()
        assert made is not None
        return str(made["metadata"]["labels"]["lmforge.dev/template-hash"])

    assert identity() == identity()
    assert identity() != identity(accessLog=True)
    with_adapters = desired(gateway={}, adapters=[LEGAL]).gateway()
    assert with_adapters is not None
    assert with_adapters["metadata"]["labels"]["lmforge.dev/template-hash"] == identity()


def test_a_stopped_service_keeps_its_parts_without_pods() -> None:
    wanted = desired(stopped=True, gateway={}, router={"replicas": 2})
    gateway = wanted.gateway()
    assert gateway is not None
    assert (wanted.router()["spec"]["replicas"], gateway["spec"]["replicas"]) == (0, 0)
