"""Stand in front of an InferenceService's router or engines.

A gateway's pod runs

    python -m lmforge_workloads.serve.gateway --config /etc/lmforge/gateway.json

The same by hand, in front of anything that speaks OpenAI's API:

    python -m lmforge_workloads.serve.gateway --upstream http://localhost:8000 --model smollm2
"""

import argparse
import asyncio
import logging
import socket
import sys
from pathlib import Path

import uvloop

from lmforge_api.gateway_run import GATEWAY_CONFIG_PATH, GatewayRun, Upstream
from lmforge_api.run import TERMINATION_LOG
from lmforge_workloads.common import logs
from lmforge_workloads.common.exits import last_words
from lmforge_workloads.serve.gateway.server import serve

log = logging.getLogger("lmforge_workloads.serve.gateway")


def main() -> int:
    """Read the configuration, serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="lmforge_workloads.serve.gateway", description="An API gateway.")
    parser.add_argument("--config", type=Path, default=Path(GATEWAY_CONFIG_PATH), help="JSON of a GatewayRun")
    parser.add_argument("--upstream", metavar="URL", help="without a configuration: where requests go")
    parser.add_argument("--model", default="model", help="with --upstream: name under which the model is served")
    arguments = parser.parse_args()
    logs.configure()
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # the rest we say ourselves
    try:
        run = _configuration(arguments)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(run, pod=socket.gethostname()))
    except Exception as error:
        log.error("the gateway can't go on: %s", error)
        return last_words(TERMINATION_LOG, error)
    return 0


def _configuration(arguments: argparse.Namespace) -> GatewayRun:
    if arguments.upstream is None:
        return GatewayRun.model_validate_json(arguments.config.read_bytes())
    upstream = Upstream(url=arguments.upstream)
    return GatewayRun(namespace="default", name="local", model=arguments.model, upstream=upstream)


if __name__ == "__main__":
    sys.exit(main())
