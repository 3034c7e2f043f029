"""Serve an ONNX model by OpenAI's API.

    python -m lmforge_workloads.serve.onnx --model DIRECTORY --served-model-name smollm2 --port 8000

DIRECTORY is what `python -m onnxruntime_genai.models.builder` writes: genai_config.json, weights, tokenizer.
"""

import argparse
import asyncio
import logging
import sys
from pathlib import Path

import uvloop

from lmforge_workloads.common import logs
from lmforge_workloads.common.exits import UserError
from lmforge_workloads.serve.onnx.app import Engine
from lmforge_workloads.serve.onnx.generation import GenaiGeneration
from lmforge_workloads.serve.onnx.model import Model
from lmforge_workloads.serve.onnx.scheduler import Room, Scheduler
from lmforge_workloads.serve.onnx.server import Server


def main(words: list[str]) -> int:
    """Load the model, serve until SIGTERM."""
    arguments = _parse(words)
    logs.configure()
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # the rest we say ourselves
    try:
        engine = _engine(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)  # plain, and last: that is what a pod's status shows
        return error.exit_code
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(engine, arguments))
    return 0


def _engine(arguments: argparse.Namespace) -> Engine:
    model = Model(arguments.model, max_model_len=arguments.max_model_len, threads=arguments.threads)
    room = Room(
        slots=arguments.max_num_seqs,
        cache_tokens=model.cache_tokens(arguments.kv_cache_gib),
        waiting=arguments.max_waiting,
    )
    scheduler = Scheduler(lambda ask: GenaiGeneration(model, ask), room)
    return Engine(arguments.served_model_name or arguments.model.name, model, scheduler)


async def _serve(engine: Engine, arguments: argparse.Namespace) -> None:
    engine.scheduler.start()
    await Server(
        engine, host=arguments.host, port=arguments.port, shutdown_timeout=arguments.shutdown_timeout
    ).serve()  # fmt: skip


def _parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="lmforge_workloads.serve.onnx", description="Serve an ONNX model.")
    parser.add_argument("--model", type=Path, required=True, help="directory with genai_config.json")
    parser.add_argument("--served-model-name", help="in requests; default: the directory's name")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--max-model-len", type=_positive, help="context in tokens; default: the model's")
    parser.add_argument("--kv-cache-gib", type=_positive, default=1, help="for all requests together (1)")
    parser.add_argument("--max-num-seqs", type=_positive, default=16, help="requests at a time (16)")
    parser.add_argument("--max-waiting", type=_positive, default=256, help="requests in line; more get 503 (256)")
    parser.add_argument("--threads", type=_positive, help="default: one a core")
    parser.add_argument("--shutdown-timeout", type=_positive, default=60, help="seconds after SIGTERM (60)")
    return parser.parse_args(words)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
