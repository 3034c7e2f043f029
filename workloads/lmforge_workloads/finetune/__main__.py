"""Fine-tune a language model, as one pod of a FineTune or by hand.

A pod of attempt N runs

    python -m lmforge_workloads.finetune --config /etc/lmforge/run.json

The same on a laptop's CPU, without Kubernetes, with any Hugging Face directory and a file of rows:

    python -m lmforge_workloads.finetune --model ./smollm2-135m --rows chats.csv --to /tmp/tuned --method lora
"""

import argparse
import os
import sys
from pathlib import Path

from lmforge_api.finetune import FineTuneSpec
from lmforge_api.run import RUN_CONFIG_PATH, FineTuneRun, Rendezvous, StorePaths
from lmforge_workloads.common import logs
from lmforge_workloads.common.launch import run_pod
from lmforge_workloads.finetune.startup import program


def main() -> int:
    """Read the configuration, run this pod's ranks, return the exit code."""
    parser = argparse.ArgumentParser(prog="lmforge_workloads.finetune", description="Fine-tune a language model.")
    parser.add_argument("--config", type=Path, default=Path(RUN_CONFIG_PATH), help="JSON of a FineTuneRun")
    parser.add_argument("--node-rank", type=int, default=int(os.environ.get("JOB_COMPLETION_INDEX", "0")))
    parser.add_argument("--model", type=Path, help="Hugging Face directory to teach, in place of --config")
    parser.add_argument("--rows", type=Path, help="file of rows")
    parser.add_argument("--to", type=Path, help="directory to leave everything in")
    parser.add_argument("--method", default="lora", choices=("full", "lora", "qlora"))
    parser.add_argument("--steps", type=int, help="optimizer steps (default: three epochs)")
    arguments = parser.parse_args()
    logs.configure()
    if arguments.model:
        if not (arguments.rows and arguments.to):
            parser.error("--model needs --rows and --to")
        run = by_hand(arguments)
    else:
        run = FineTuneRun.model_validate_json(arguments.config.read_bytes())
    return run_pod(run, node_rank=arguments.node_rank, program=program)


def by_hand(arguments: argparse.Namespace) -> FineTuneRun:
    """One rank on this machine."""
    arguments.to.mkdir(parents=True, exist_ok=True)
    spec = FineTuneSpec.model_validate({
        "model": {"uri": "file:///model"},
        "dataset": {"uri": "file:///rows"},
        "method": arguments.method,
        "resources": {"cpu": str(os.cpu_count() or 1)},
        **({"steps": arguments.steps} if arguments.steps else {}),
    })  # fmt: skip
    return FineTuneRun(
        namespace="default",
        name=arguments.to.name,
        rendezvous=Rendezvous(host="localhost", port=29500),
        store=StorePaths(root=str(arguments.to.absolute())),
        model_path=str(arguments.model.absolute()),
        dataset_path=str(arguments.rows.absolute()),
        termination_log=str(arguments.to / "last-words.json"),
        spec=spec,
    )


if __name__ == "__main__":
    sys.exit(main())
