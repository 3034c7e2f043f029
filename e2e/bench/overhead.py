"""Bench (a), overhead: tokens/s of a TrainingJob against the same training without the operator.

    python -m e2e.bench.overhead --repeats 5 --json overhead.json

Two pods on two nodes, a rank each, data parallelism with ZeRO 1, by turns:
  ours    a TrainingJob: reports each second, metrics and TensorBoard each step, watchdog, agreement on stopping
  theirs  plain pods of the same image, resources and model that run overhead_plain.py under torchrun
Throughput is taken between two steps in the middle, so that neither start-up nor a checkpoint counts.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from e2e.bench.place import Place, place
from e2e.bench.report import Sample, publish, ratios
from e2e.jobs import Run, pair
from e2e.lmforge import Manifest

# Small, but with steps of near a second: what is spent once a step should not look larger here than it is anywhere.
INIT = {"architecture": "llama", "layers": 6, "hiddenSize": 256, "heads": 8}
LENGTH, BATCH, MICRO, VOCABULARY = 256, 16, 8, 512
WARM = 10
PLAIN = Path(__file__).with_name("overhead_plain.py")
RESOURCES = {"cpu": "100m", "memory": "3Gi"}
UNMEASURED = 1_000_000


def ours(where: Place, number: int, *, steps: int) -> float:
    """Tokens/s of a TrainingJob."""
    run = Run(where.kube, f"ours-{number}")
    job = pair(
        run.name,
        model={"init": INIT},
        dataset={"uri": "pvc://corpus/little", "tokenizer": {"train": {"vocabSize": VOCABULARY}}},
        sequenceLength=LENGTH,
        batch={"global": BATCH, "micro": MICRO},
        steps=steps,
        checkpoint={"everySteps": UNMEASURED},
        evaluation={"everySteps": UNMEASURED, "samples": 8},
        resources=RESOURCES,
    )
    where.kube.apply(job)
    run.wait_succeeded(seconds=600)
    lines = run.lines("attempts/0001/metrics.jsonl")
    speed = tokens_per_second([line["time"] for line in lines if "loss" in line])
    where.kube("delete", run.reference, "--wait=true")
    return speed


def theirs(where: Place, number: int, *, steps: int) -> float:
    """Tokens/s of plain pods."""
    name, kube = f"theirs-{number}", where.kube
    wanted = {"init": INIT, "steps": steps, "length": LENGTH, "micro": MICRO, "batch": BATCH, "vocabulary": VOCABULARY}
    kube.apply(*plain_job(name, image=where.images["train"], wanted=wanted))
    kube("wait", f"job/{name}", "--for=jsonpath={.status.conditions}", "--timeout=600s")
    logs = kube("logs", "-l", f"job-name={name},batch.kubernetes.io/job-completion-index=0", "--tail=-1")
    said = [json.loads(line) for line in logs.splitlines() if line.startswith('{"rank"')]
    kube("delete", f"job/{name}", f"service/{name}", f"configmap/{name}", "--wait=true")
    return tokens_per_second(next(each["times"] for each in said))


def tokens_per_second(times: Sequence[float]) -> float:
    """Between the end of step WARM and the end of the last."""
    measured = times[WARM - 1 :]
    return (len(measured) - 1) * BATCH * LENGTH / (measured[-1] - measured[0])


def plain_job(name: str, *, image: str, wanted: dict[str, Any]) -> Sequence[Manifest]:
    """An Indexed Job as a user without an operator writes it."""
    labels = {"bench": name}
    script = (
        "torchrun --nnodes 2 --nproc-per-node 1 --node-rank $JOB_COMPLETION_INDEX "
        f"--master-addr {name}-0.{name} --master-port 29500 /plain/plain.py '{json.dumps(wanted)}'"
    )
    container = {
        "name": "plain",
        "image": image,
        "command": ["sh", "-c", script],
        "env": [{"name": key, "value": value} for key, value in
                {"DS_ACCELERATOR": "cpu", "LOCAL_SIZE": "1", "OMP_NUM_THREADS": "1", "HOME": "/tmp"}.items()],
        "resources": {"requests": RESOURCES, "limits": {"memory": RESOURCES["memory"]}},
        "volumeMounts": [{"name": "plain", "mountPath": "/plain"}, {"name": "shm", "mountPath": "/dev/shm"}],
    }  # fmt: skip
    apart = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": labels}}
    pod = {
        "subdomain": name,
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532},
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}},
        "containers": [container],
        "volumes": [
            {"name": "plain", "configMap": {"name": name}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
        ],
    }
    job = {
        "completions": 2,
        "parallelism": 2,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    service = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": labels}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"plain.py": PLAIN.read_text()}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": service},
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": job},
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="runs of each")
    parser.add_argument("--steps", type=int, default=60, help="steps of each run")
    parser.add_argument("--json", type=Path, help="where to write the result")
    options = parser.parse_args()
    measured: dict[str, list[float]] = {"TrainingJob": [], "torchrun": []}
    with place("overhead") as where:
        for number in range(options.repeats):
            both = [("TrainingJob", ours), ("torchrun", theirs)]
            for name, measure in both if number % 2 == 0 else reversed(both):
                measured[name].append(measure(where, number, steps=options.steps))
                print(f"  {name}: {measured[name][-1]:.0f} tokens/s", flush=True)
    mine, other = (Sample(name, "tokens/s", values) for name, values in measured.items())
    publish("Overhead", [mine, other, ratios(mine, other)], target="a ratio of at least 0.98", json_file=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
