"""Our own server on onnxruntime-genai: `python -m lmforge_workloads.serve.onnx --help`."""

from collections.abc import Iterator, Sequence

from prometheus_client.metrics_core import Metric

from lmforge_operator.serving.engines import openai
from lmforge_operator.serving.engines.engine import PORT, Engine, Task, cache_bytes, cache_gib, extra, totals
from lmforge_operator.serving.load import EngineLoad


def command(task: Task) -> tuple[str, ...]:
    """The server's command line."""
    return ("python", "-m", "lmforge_workloads.serve.onnx", *_arguments(task))


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
    yield from ("--threads", str(task.threads))
    yield from ("--kv-cache-gib", str(cache_gib(spec.engine_args)))
    if spec.engine_args.max_model_len is not None:
        yield from ("--max-model-len", str(spec.engine_args.max_model_len))
    yield from extra(spec.engine_args)


ONNXRUNTIME = Engine(
    name="onnxruntime",
    image=lambda images, _: images.onnx,
    formats=frozenset({"ONNX"}),
    loads="ONNX directories (genai_config.json)",
    command=command,
    warm_up=openai.warm_up,
    cache_bytes=cache_bytes,
    shares_cache=True,
    cache_number_bytes=4,
    measure=measure,
)
