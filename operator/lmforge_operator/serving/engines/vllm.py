"""vLLM's OpenAI-compatible server. Its arguments are those of `python -m vllm.entrypoints.openai.api_server --help`."""

import json
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.metrics_core import Metric

from lmforge_api.inferenceservice_parts import EngineArgs, Speculative
from lmforge_operator.serving.engines import openai, vllm_adapters
from lmforge_operator.serving.engines.engine import (
    PORT,
    SCRATCH,
    Engine,
    Follower,
    Task,
    cache_bytes,
    cache_gib,
    extra,
    totals,
)
from lmforge_operator.serving.load import EngineLoad

LOGGING = "/opt/lmforge/vllm-logging.json"
"""In our images: errors go to the termination log too."""
GROUP_PORT = 29501
LEADER, RANK = "LWS_LEADER_ADDRESS", "LWS_WORKER_INDEX"
"""Variables by which LeaderWorkerSet tells a pod its place."""


def command(task: Task) -> tuple[str, ...]:
    """The server's command line."""
    return ("python", "-m", "vllm.entrypoints.openai.api_server", *_arguments(task))


def follow(task: Task) -> tuple[str, ...]:
    """The same on another node of the replica: only workers, no server."""
    return ("python", "-m", "vllm.entrypoints.cli.main", "serve", *_arguments(task), "--headless")


def environment(task: Task) -> Mapping[str, str]:
    """Caches go where the pod may write; nothing is asked of a hub unless the model comes from one."""
    variables = {
        "HOME": SCRATCH,
        "HF_HOME": f"{SCRATCH}/huggingface",
        "VLLM_CACHE_ROOT": f"{SCRATCH}/vllm",
        "VLLM_CONFIG_ROOT": f"{SCRATCH}/vllm",
        "VLLM_NO_USAGE_STATS": "1",
        "TORCHINDUCTOR_CACHE_DIR": f"{SCRATCH}/inductor",
        "TRITON_CACHE_DIR": f"{SCRATCH}/triton",
    }
    if task.spec.template.image is None:
        variables["VLLM_LOGGING_CONFIG_PATH"] = LOGGING
    if task.spec.lora:
        variables["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"
    if not task.model.startswith("hf://"):
        variables["HF_HUB_OFFLINE"] = "1"
    if task.on_cpu:
        variables["VLLM_CPU_KVCACHE_SPACE"] = str(cache_gib(task.spec.engine_args))
        # By itself vLLM binds its threads to a node's first cores: all replicas of a node to the same ones.
        variables["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        # Some of its functions (for tensor parallelism) are compiled at first use, and the image has no compiler.
        variables["TORCH_COMPILE_DISABLE"] = "1"
        variables["OMP_NUM_THREADS"] = str(task.threads)
    return variables


def warm_up(task: Task) -> tuple[str, ...]:
    """Waits for the server, then has it load its adapters and make a token."""
    return openai.warm_up(task, between=vllm_adapters.LOAD if task.spec.lora else "")


def measure(families: Sequence[Metric]) -> EngineLoad:
    """vLLM's metrics in our words. With data parallelism there is a sample for each of its engines."""
    total = totals(families)
    engines = _engines(families)
    return EngineLoad(
        waiting=int(total["vllm:num_requests_waiting"]),
        running=int(total["vllm:num_requests_running"]),
        kv_cache_use=total["vllm:kv_cache_usage_perc"] / engines,
        tokens=total["vllm:generation_tokens_total"],
        answered=total["vllm:request_success_total"],
        first_token_seconds=total["vllm:time_to_first_token_seconds_sum"],
        first_tokens=total["vllm:time_to_first_token_seconds_count"],
    )


def _engines(families: Sequence[Metric]) -> int:
    found = [len(family.samples) for family in families if family.name == "vllm:kv_cache_usage_perc"]
    return max(1, *found) if found else 1


def _arguments(task: Task) -> Iterator[str]:
    spec = task.spec
    yield from _model(task.model)
    yield from ("--served-model-name", task.served_name, "--host", "0.0.0.0", "--port", str(PORT))
    yield from ("--shutdown-timeout", str(spec.drain_seconds))
    yield "--enable-scale-out"  # else it doesn't tell the router the tokens of prompts
    if task.on_cpu:
        yield "--enforce-eager"
    for name, size in (
        ("tensor", spec.parallelism.tensor),
        ("pipeline", spec.parallelism.pipeline),
        ("data", spec.parallelism.data),
    ):
        if size > 1:
            yield from (f"--{name}-parallel-size", str(size))
    if spec.nodes > 1:
        yield from ("--nnodes", str(spec.nodes), "--node-rank", f"$({RANK})", "--distributed-executor-backend", "mp")
        yield from ("--master-addr", f"$({LEADER})", "--master-port", str(GROUP_PORT))
    yield from _typed(spec.engine_args)
    if spec.lora:
        yield from vllm_adapters.arguments(spec.lora)
    yield from extra(spec.engine_args)


def _model(model: str) -> Iterator[str]:
    name, _, revision = model.removeprefix("hf://").rstrip("/").partition("@") if "://" in model else (model, "", "")
    yield from ("--model", name)
    if revision:
        yield from ("--revision", revision)


def _typed(args: EngineArgs) -> Iterator[str]:
    yield from ("--dtype", args.dtype)
    yield "--enable-prefix-caching" if args.prefix_caching else "--no-enable-prefix-caching"
    for name, value in (
        ("max-model-len", args.max_model_len),
        ("gpu-memory-utilization", args.gpu_memory_utilization),
        ("quantization", args.quantization),
    ):
        if value is not None:
            yield from (f"--{name}", str(value))
    if args.chunked_prefill is not None:
        yield "--enable-chunked-prefill" if args.chunked_prefill else "--no-enable-chunked-prefill"
    if args.speculative is not None:
        yield from ("--speculative-config", _speculation(args.speculative))


def _speculation(guess: Speculative) -> str:
    chosen = {"method": guess.method, "num_speculative_tokens": guess.tokens, "prompt_lookup_max": guess.lookup}
    return json.dumps(chosen)


VLLM = Engine(
    name="vllm",
    image=lambda images, spec: images.vllm_cuda if spec.resources.accelerator else images.vllm,
    formats=frozenset({"HuggingFace"}),
    loads="Hugging Face directories",
    command=command,
    environment=environment,
    warm_up=warm_up,
    cache_bytes=cache_bytes,
    shares_cache=True,
    measure=measure,
    adapters=vllm_adapters.ADAPTERS,
    tells_tokens=True,
    follower=Follower(follow, lambda task: openai.outlive(task, host=LEADER)),
)
