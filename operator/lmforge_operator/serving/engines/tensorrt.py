"""TensorRT-LLM's server, for NVIDIA's accelerators. Its arguments are those of `trtllm-serve serve --help`; what has no
argument is in a file of options (`tensorrt_llm.llmapi.LlmArgs`), which JSON can be as well as YAML.
"""

import json
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.metrics_core import Metric

from lmforge_api.inferenceservice_parts import EngineArgs, Speculative
from lmforge_operator.serving.engines import openai
from lmforge_operator.serving.engines.engine import PORT, SCRATCH, Engine, Task, totals
from lmforge_operator.serving.load import EngineLoad

METRICS_PATH = "/prometheus/metrics"
OPTIONS_FILE = f"{SCRATCH}/options.yaml"

_START = f"""\
import os, sys
with open({OPTIONS_FILE!r}, "w") as file:
    file.write(sys.argv[1])
os.execvp(sys.argv[2], sys.argv[2:])
"""


def command(task: Task) -> tuple[str, ...]:
    """Writes the options down and becomes the server."""
    options = json.dumps(_options(task.spec.engine_args), sort_keys=True)
    return ("python", "-c", _START, options, "trtllm-serve", "serve", *_arguments(task))


def environment(task: Task) -> Mapping[str, str]:
    """Caches go where the pod may write; nothing is asked of a hub unless the model comes from one."""
    variables = {"HOME": SCRATCH, "HF_HOME": f"{SCRATCH}/huggingface", "TRITON_CACHE_DIR": f"{SCRATCH}/triton"}
    if not task.model.startswith("hf://"):
        variables["HF_HUB_OFFLINE"] = "1"
    return variables


def drain(task: Task) -> tuple[str, ...]:
    """The server has no word for how long it may finish its requests."""
    gauges = ("trtllm_num_requests_running", "trtllm_num_requests_waiting")
    return openai.drain(task, gauges=gauges, path=METRICS_PATH)


def cache_bytes(args: EngineArgs) -> int:
    """The cache is on the accelerator."""
    return 0


def measure(families: Sequence[Metric]) -> EngineLoad:
    """TensorRT-LLM's metrics in our words."""
    total = totals(families)
    return EngineLoad(
        waiting=int(total["trtllm_num_requests_waiting"]),
        running=int(total["trtllm_num_requests_running"]),
        kv_cache_use=total["trtllm_kv_cache_utilization"],
        tokens=total["trtllm_generation_tokens_total"],
        answered=total["trtllm_request_success_total"],
        first_token_seconds=total["trtllm_time_to_first_token_seconds_sum"],
        first_tokens=total["trtllm_time_to_first_token_seconds_count"],
    )


def _arguments(task: Task) -> Iterator[str]:
    spec = task.spec
    name, _, revision = task.model.removeprefix("hf://").rstrip("/").partition("@")
    yield name
    if revision:
        yield from ("--revision", revision)
    yield from ("--served_model_name", task.served_name, "--host", "0.0.0.0", "--port", str(PORT))
    yield from ("--backend", "pytorch", "--config", OPTIONS_FILE)
    for argument, size in (("tp_size", spec.parallelism.tensor), ("pp_size", spec.parallelism.pipeline)):
        if size > 1:
            yield from (f"--{argument}", str(size))
    if spec.engine_args.max_model_len is not None:
        yield from ("--max_seq_len", str(spec.engine_args.max_model_len))
    for key, value in sorted(spec.engine_args.extra.items()):
        argument = key.replace("-", "_")
        yield from (f"--{argument}", value) if value else (f"--{argument}",)


def _options(args: EngineArgs) -> Mapping[str, object]:
    """`return_perf_metrics` and `enable_iter_perf_stats` make it measure what is scraped and drained by."""
    cache: dict[str, object] = {"enable_block_reuse": args.prefix_caching}
    if args.gpu_memory_utilization is not None:
        cache["free_gpu_memory_fraction"] = args.gpu_memory_utilization
    options: dict[str, object] = {
        "dtype": args.dtype,
        "kv_cache_config": cache,
        "return_perf_metrics": True,
        "enable_iter_perf_stats": True,
    }
    if args.chunked_prefill is not None:
        options["enable_chunked_prefill"] = args.chunked_prefill
    if args.speculative is not None:
        options["speculative_config"] = _speculation(args.speculative)
    return options


def _speculation(guess: Speculative) -> Mapping[str, object]:
    return {
        "decoding_type": "NGram",
        "max_draft_len": guess.tokens,
        "max_matching_ngram_size": guess.lookup,
    }


TENSORRT = Engine(
    name="tensorrt",
    image=lambda images, _: images.tensorrt,
    formats=frozenset({"HuggingFace"}),
    loads="Hugging Face directories",
    command=command,
    environment=environment,
    warm_up=openai.warm_up,
    drain=drain,
    cache_bytes=cache_bytes,
    shares_cache=True,
    metrics_path=METRICS_PATH,
    measure=measure,
)
