"""Our own server on onnxruntime-genai: `python -m lmforge_workloads.serve.onnx --help`."""

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.metrics_core import Metric

from lmforge_api.inferenceservice_parts import EngineArgs
from lmforge_operator.serving.engines import openai
from lmforge_operator.serving.engines.engine import Engine, Task, totals
from lmforge_operator.serving.load import EngineLoad
from lmforge_operator.words import number_of

PORT = 8000
DEFAULT_KV_CACHE_GIB = 1


def command(task: Task) -> tuple[str, ...]:
    """The server's command line."""
    return ("python", "-m", "lmforge_workloads.serve.onnx", *_arguments(task))


def environment(task: Task) -> Mapping[str, str]:
    """Nothing: all is said by arguments."""
    return {}


def warm_up(task: Task) -> tuple[str, ...]:
    """Waits for the server, then has it make a token."""
    return openai.warm_up(task, port=PORT)


def cache_bytes(args: EngineArgs) -> int:
    """What all requests together may take."""
    return _cache_gib(args) * 2**30


def measure(families: Sequence[Metric]) -> EngineLoad:
    """The server's metrics in our words."""
    total = totals(families)
    return EngineLoad(
        waiting=int(total["lmforge_engine_requests_waiting"]),
        running=int(total["lmforge_engine_requests_running"]),
        kv_cache_use=total["lmforge_engine_kv_cache_use_ratio"],
        tokens=total["lmforge_engine_generated_tokens_total"],
        answered=total["lmforge_engine_requests_finished_total"],
        first_token_seconds=total["lmforge_engine_time_to_first_token_seconds_sum"],
        first_tokens=total["lmforge_engine_time_to_first_token_seconds_count"],
    )


def _arguments(task: Task) -> Iterator[str]:
    spec = task.spec
    yield from ("--model", task.model, "--served-model-name", task.served_name)
    yield from ("--host", "0.0.0.0", "--port", str(PORT), "--shutdown-timeout", str(spec.drain_seconds))
    yield from ("--threads", str(max(1, round(number_of(spec.resources.cpu)))))
    yield from ("--kv-cache-gib", str(_cache_gib(spec.engine_args)))
    if spec.engine_args.max_model_len is not None:
        yield from ("--max-model-len", str(spec.engine_args.max_model_len))
    for name, value in sorted(spec.engine_args.extra.items()):
        yield from (f"--{name}", value) if value else (f"--{name}",)


def _cache_gib(args: EngineArgs) -> int:
    return args.kv_cache or DEFAULT_KV_CACHE_GIB


ONNXRUNTIME = Engine(
    name="onnxruntime",
    port=PORT,
    image=lambda images, _: images.onnx,
    formats=frozenset({"ONNX"}),
    loads="ONNX directories (genai_config.json)",
    command=command,
    environment=environment,
    warm_up=warm_up,
    drain=None,
    cache_bytes=cache_bytes,
    shares_cache=True,
    cache_number_bytes=4,
    health_path="/health",
    metrics_path="/metrics",
    measure=measure,
)
