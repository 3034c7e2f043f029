"""Pre-train a language model, as one pod of a TrainingJob or by hand.

A pod of attempt N runs

    python -m lmforge_workloads.train --config /etc/lmforge/run.json

The same on a laptop's CPU, without Kubernetes, in seconds:

    python -m lmforge_workloads.train --toy /tmp/toy --text README.md
"""

import argparse
import os
import sys
from pathlib import Path

from lmforge_api.run import RUN_CONFIG_PATH, Rendezvous, StorePaths, TrainingRun
from lmforge_api.trainingjob import TrainingJobSpec
from lmforge_workloads.common import logs
from lmforge_workloads.common.launch import run_pod
from lmforge_workloads.train.startup import program


def main() -> int:
    """Read the configuration, run this pod's ranks, return the exit code."""
    parser = argparse.ArgumentParser(prog="lmforge_workloads.train", description="Pre-train a language model.")
    parser.add_argument("--config", type=Path, default=Path(RUN_CONFIG_PATH), help="JSON of a TrainingRun")
    parser.add_argument("--node-rank", type=int, default=int(os.environ.get("JOB_COMPLETION_INDEX", "0")))
    parser.add_argument("--toy", type=Path, metavar="DIRECTORY", help="train a tiny Llama and leave it here")
    parser.add_argument("--text", type=Path, default=Path("README.md"), help="text file or directory for --toy")
    arguments = parser.parse_args()
    logs.configure()
    if arguments.toy:
        run = toy(arguments.toy, text=arguments.text)
    else:
        run = TrainingRun.model_validate_json(arguments.config.read_bytes())
    return run_pod(run, node_rank=arguments.node_rank, program=program)


def toy(directory: Path, *, text: Path) -> TrainingRun:
    """Two ranks, 50 steps of a Llama with 30 thousand parameters or so."""
    directory.mkdir(parents=True, exist_ok=True)
    spec = TrainingJobSpec.model_validate({
        "model": {"init": {"architecture": "llama", "layers": 2, "hiddenSize": 32, "heads": 4}},
        "dataset": {"uri": "file:///text", "tokenizer": {"train": {"vocabSize": 320}}},
        "sequenceLength": 64,
        "parallelism": {"data": 2},
        "precision": "fp32",
        "optimizer": {"learningRate": 0.01},
        "evaluation": {"holdout": 0.2, "samples": 8},
        "checkpoint": {"everySteps": 20},
        "steps": 50,
    })  # fmt: skip
    return TrainingRun(
        namespace="default",
        name="toy",
        processes_per_node=2,
        data_parallel=2,
        rendezvous=Rendezvous(host="localhost", port=29500),
        store=StorePaths(root=str(directory)),
        dataset_path=str(text.absolute()),
        termination_log=str(directory / "last-words.json"),
        spec=spec,
    )


if __name__ == "__main__":
    sys.exit(main())
