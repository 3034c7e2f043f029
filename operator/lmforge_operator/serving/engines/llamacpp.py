"""llama.cpp's server, for GGUF files. Its arguments are those of `llama-server --help`.

An artifact in the format GGUF is a directory that holds `model.gguf`.
"""

from collections.abc import Iterator, Sequence

from prometheus_client.metrics_core import Metric

from lmforge_api.inferenceservice_parts import EngineArgs, ServingParallelism, Speculative
from lmforge_operator.serving.engines import openai
from lmforge_operator.serving.engines.engine import PORT, Engine, Task
from lmforge_operator.serving.load import EngineLoad

FILE = "model.gguf"
PARALLEL = 4
"""Requests that run at a time, where extra.parallel says nothing: llama-server's own default, said since the context
of each follows from it."""
KEPT_PROMPTS_MIB = 1024
"""llama-server's own 8 GiB would be counted towards the pod's memory once they are full."""


def command(task: Task) -> tuple[str, ...]:
    """The server's command line."""
    return ("llama-server", *_arguments(task))


def drain(task: Task) -> tuple[str, ...]:
    """At SIGTERM the server makes no further token; its streams end half a minute later, without a reason."""
    gauges = ("llamacpp:requests_processing", "llamacpp:requests_deferred")
    return openai.drain(task, gauges=gauges)


def cache_bytes(args: EngineArgs) -> int:
    """Prompts that are kept. Those that run have their cache beside them."""
    return _kept_mib(args) * 2**20


def measure(families: Sequence[Metric]) -> EngineLoad:
    """llama-server's metrics in our words. It counts no requests: each takes at least one call of the model."""
    values = {sample.name: sample.value for family in families for sample in family.samples}
    return EngineLoad(
        waiting=int(values.get("llamacpp:requests_deferred", 0)),
        running=int(values.get("llamacpp:requests_processing", 0)),
        tokens=values.get("llamacpp:tokens_predicted_total", 0),
        answered=values.get("llamacpp:n_decode_total", 0),
    )


def _arguments(task: Task) -> Iterator[str]:
    spec = task.spec
    yield from ("--model", task.model if task.model.endswith(".gguf") else f"{task.model}/{FILE}")
    yield from ("--alias", task.served_name, "--host", "0.0.0.0", "--port", str(PORT), "--metrics")
    yield from ("--threads", str(task.threads), "--threads-batch", str(task.threads))
    yield from _context(spec.engine_args)
    yield "--cache-prompt" if spec.engine_args.prefix_caching else "--no-cache-prompt"
    yield from ("--cache-ram", str(_kept_mib(spec.engine_args)))
    yield from _split(spec.parallelism)
    if spec.engine_args.speculative is not None:
        yield from _speculation(spec.engine_args.speculative)
    for name, value in sorted(spec.engine_args.extra.items()):
        if name != "parallel":
            yield from (f"--{name}", value) if value else (f"--{name}",)


def _context(args: EngineArgs) -> Iterator[str]:
    """The context that is asked for is each request's own; the model's own one is shared by all that run."""
    parallel = int(args.extra.get("parallel", PARALLEL))
    yield from ("--parallel", str(parallel))
    if args.max_model_len is None:
        yield from ("--ctx-size", "0", "--kv-unified")
    else:
        yield from ("--ctx-size", str(args.max_model_len * parallel), "--no-kv-unified")


def _kept_mib(args: EngineArgs) -> int:
    if not args.prefix_caching:
        return 0
    return KEPT_PROMPTS_MIB if args.kv_cache is None else args.kv_cache * 1024


def _split(parallelism: ServingParallelism) -> Iterator[str]:
    if parallelism.tensor > 1:
        yield from ("--split-mode", "row")
    elif parallelism.pipeline > 1:
        yield from ("--split-mode", "layer")


def _speculation(guess: Speculative) -> Iterator[str]:
    yield from ("--spec-type", "ngram-simple")
    yield from ("--spec-ngram-simple-size-n", str(guess.lookup), "--spec-ngram-simple-size-m", str(guess.tokens))


LLAMACPP = Engine(
    name="llamacpp",
    image=lambda images, _: images.llamacpp,
    formats=frozenset({"GGUF"}),
    loads="GGUF files",
    command=command,
    warm_up=openai.warm_up,
    drain=drain,
    cache_bytes=cache_bytes,
    shares_cache=False,
    measure=measure,
)
