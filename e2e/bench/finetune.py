"""Bench (g), fine-tuning: tokens/s and peak memory of a FineTune against the same training written directly on trl.

    python -m e2e.bench.finetune --repeats 5 --methods lora full qlora --json finetune.json

SmolLM2-135M learns Python's glossary in one pod on one thread, by turns:
  FineTune  reports each second, metrics and TensorBoard each step, watchdog, checks of each loss
  trl       a Job of the same image and resources that runs finetune_plain.py
Both take the same batches in the same order, so their losses have to agree: where they don't, there is no comparison.
Throughput is taken between two steps in the middle, so that start-up, evaluation and checkpoint don't count. Memory is
what all processes of the pod have allocated together, at most, from its start to its end.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from e2e import corpus
from e2e.bench.place import Place, place
from e2e.bench.pod_memory import PodMemory
from e2e.bench.report import Sample, publish, ratios
from e2e.cluster.paths import default_paths
from e2e.jobs import Run
from e2e.lmforge import Manifest, plugin
from e2e.models import NAME as MODEL
from e2e.serving import MODELS, put_model

METHODS = ("lora", "full", "qlora")
SMALLER = (("lora", "full"), ("qlora", "lora"))
"""Methods of which the first should need less memory than the second."""
BATCH, LENGTH, SAMPLES, LEARNING_RATE = 4, 128, 8, 2e-4
LOGGED = 10
"""Steps between two lines of trl's log, by default."""
WARM = LOGGED
SAME = 0.002
"""Nats by which a mean loss may differ: sums of floats in another order."""
CLAIM, ROWS = "glossary", "glossary.csv"
PLAIN = Path(__file__).with_name("finetune_plain.py")
RESOURCES = {"cpu": "1", "memory": "6Gi"}
UNMEASURED = 1_000_000
SECONDS = 1200


class NotTheSame(Exception):
    """What was measured isn't one training, so it can't be compared."""


@dataclass(frozen=True)
class Training:
    """What was seen of one."""

    times: Sequence[float]
    """When each step was done."""
    losses: Sequence[float]
    """Means of LOGGED steps each."""
    tokens: Mapping[int, int]
    """Step -> tokens trained on until its end, where that is known."""
    peak: int
    """Bytes."""


def ours(where: Place, name: str, *, method: str, steps: int) -> Training:
    """A FineTune."""
    run = Run(where.kube, f"ours-{name}", kind="finetune")
    with PodMemory(where.kube, f"lmforge.dev/name={run.name}") as memory:
        where.kube.apply(fine_tune(run.name, method=method, steps=steps))
        status = run.wait_succeeded(seconds=SECONDS)
    lines = [line for line in run.lines("attempts/0001/metrics.jsonl") if "loss" in line]
    where.kube("delete", run.reference, "--wait=true")
    return Training(
        times=[line["time"] for line in lines],
        losses=means([line["loss"] for line in lines]),
        tokens={steps: status["progress"]["tokens"]},
        peak=memory.peak,
    )


def theirs(where: Place, name: str, *, method: str, steps: int) -> Training:
    """A plain Job."""
    name, kube = f"theirs-{name}", where.kube
    with PodMemory(kube, f"job-name={name}") as memory:
        kube.apply(*plain_job(name, image=where.images["finetune"], method=method, steps=steps))
        kube("wait", f"job/{name}", "--for=jsonpath={.status.conditions}", f"--timeout={SECONDS}s")
    logs = kube("logs", f"job/{name}", "--tail=-1")
    said = next((line for line in reversed(logs.splitlines()) if line.startswith('{"times"')), None)
    if said is None:
        raise NotTheSame(f"job {name} has not ended well:\n{logs[-3000:]}")
    kube("delete", f"job/{name}", f"configmap/{name}", "--wait=true")
    found = json.loads(said)
    return Training(
        times=found["times"],
        losses=[entry["loss"] for entry in found["logged"]],
        tokens={entry["step"]: int(entry["num_tokens"]) for entry in found["logged"]},
        peak=memory.peak,
    )


def means(losses: Sequence[float]) -> list[float]:
    """As trl logs them."""
    return [sum(losses[begin : begin + LOGGED]) / LOGGED for begin in range(0, len(losses), LOGGED)]


def check_same(mine: Training, other: Training) -> None:
    """Both have to have learned the same from the same batches."""
    for step in mine.tokens.keys() & other.tokens.keys():
        if mine.tokens[step] != other.tokens[step]:
            tokens = f"{mine.tokens[step]} tokens, and the script on {other.tokens[step]}"
            raise NotTheSame(f"until step {step} FineTune trained on {tokens}")
    for number, (ours, theirs) in enumerate(zip(mine.losses, other.losses, strict=True), start=1):
        if abs(ours - theirs) > SAME:
            raise NotTheSame(f"at step {number * LOGGED} FineTune's loss is {ours:.4f}, and the script's {theirs:.4f}")


def tokens_per_second(times: Sequence[float], *, tokens: int) -> float:
    """Between the end of step WARM and the end of the last, which took so many tokens."""
    return tokens / (times[-1] - times[WARM - 1])


def fine_tune(name: str, *, method: str, steps: int) -> Manifest:
    """The object. Its learning rate stays the same, and its adapter isn't merged: the script doesn't either."""
    rows = {"uri": f"pvc://{CLAIM}/{ROWS}"}
    spec: Manifest = {
        "model": {"uri": f"pvc://{MODELS}/{MODEL}"},
        "dataset": {**rows, "format": "prompt-completion"},
        "evaluation": {"dataset": rows, "samples": SAMPLES, "everySteps": UNMEASURED},
        "method": method,
        "precision": "fp32",
        "sequenceLength": LENGTH,
        "steps": steps,
        "batch": {"global": BATCH, "micro": BATCH},
        "optimizer": {"learningRate": LEARNING_RATE},
        "schedule": {"kind": "constant", "warmupRatio": 0},
        "checkpoint": {"everySteps": UNMEASURED},
        "resources": RESOURCES,
    }
    if method != "full":
        spec["output"] = {"merge": False}
    return {"apiVersion": "lmforge.dev/v1alpha1", "kind": "FineTune", "metadata": {"name": name}, "spec": spec}


def plain_job(name: str, *, image: str, method: str, steps: int) -> Sequence[Manifest]:
    """A Job as a user without an operator writes it."""
    wanted = {
        "model": f"/models/{MODEL}",
        "rows": f"/rows/{ROWS}",
        "method": method,
        "steps": steps,
        "batch": BATCH,
        "length": LENGTH,
        "samples": SAMPLES,
        "learningRate": LEARNING_RATE,
    }
    claims = {"models": MODELS, "rows": CLAIM}
    container = {
        "name": "plain",
        "image": image,
        "command": ["python", "/plain/plain.py", json.dumps(wanted)],
        "env": [{"name": key, "value": value} for key, value in
                {"OMP_NUM_THREADS": "1", "HOME": "/tmp", "HF_HUB_OFFLINE": "1"}.items()],
        "resources": {"requests": RESOURCES, "limits": {"memory": RESOURCES["memory"]}},
        "volumeMounts": [{"name": each, "mountPath": f"/{each}"} for each in ("plain", *claims)],
    }  # fmt: skip
    pod = {
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532},
        "containers": [container],
        "volumes": [
            {"name": "plain", "configMap": {"name": name}},
            *({"name": each, "persistentVolumeClaim": {"claimName": claim}} for each, claim in claims.items()),
        ],
    }
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"plain.py": PLAIN.read_text()}},
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name},
            "spec": {"backoffLimit": 0, "template": {"spec": pod}},
        },
    ]


@dataclass
class Figures:
    """Values of one side by one method, in the order of the repeats."""

    name: str
    speeds: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)

    def add(self, training: Training, *, tokens: int) -> None:
        self.speeds.append(tokens_per_second(training.times, tokens=tokens))
        self.peaks.append(training.peak / 2**20)
        print(f"  {self.name}: {self.speeds[-1]:.1f} tokens/s, {self.peaks[-1]:.0f} MiB", flush=True)

    @property
    def speed(self) -> Sample:
        return Sample(self.name, "tokens/s", self.speeds)

    @property
    def memory(self) -> Sample:
        return Sample(f"{self.name}, memory", "MiB", self.peaks)


def samples(measured: Mapping[str, tuple[Figures, Figures]]) -> list[Sample]:
    """All that was measured, by method: FineTune, trl, the ratio; and the memory of methods beside each other."""
    found = []
    for mine, other in measured.values():
        found += [mine.speed, other.speed, ratios(mine.speed, other.speed)]
        found += [mine.memory, other.memory, ratios(mine.memory, other.memory)]
    return found + [
        ratios(measured[smaller][0].memory, measured[larger][0].memory)
        for smaller, larger in SMALLER
        if smaller in measured and larger in measured
    ]


def bench(where: Place, *, methods: Sequence[str], repeats: int, steps: int) -> list[Sample]:
    """So many trainings of each side by each method, by turns."""
    measured = {method: (Figures(f"{method}: FineTune"), Figures(f"{method}: trl")) for method in methods}
    for number in range(repeats):
        for method, figures in measured.items():
            sides = [ours, theirs] if number % 2 == 0 else [theirs, ours]
            seen = {side: side(where, f"{method}-{number}", method=method, steps=steps) for side in sides}
            check_same(seen[ours], seen[theirs])
            until = seen[theirs].tokens
            for side, each in zip((ours, theirs), figures, strict=True):
                each.add(seen[side], tokens=until[steps] - until[WARM])
    return samples(measured)


def steps_of(text: str) -> int:
    """A number of steps that can be measured."""
    steps = int(text)
    if steps <= WARM or steps % LOGGED:
        raise argparse.ArgumentTypeError(f"{steps}: write a multiple of {LOGGED} above {WARM}")
    return steps


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="trainings of each")
    parser.add_argument("--steps", type=steps_of, default=60, help="steps of each training")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, help="which methods")
    parser.add_argument("--json", type=Path, help="where to write the result")
    options = parser.parse_args()
    with place("finetune") as where, tempfile.TemporaryDirectory() as folder:
        put_model(where.kube, default_paths())
        corpus.glossary(Path(folder) / ROWS)
        plugin(where.kube, "put", folder, f"pvc://{CLAIM}", "--create", "16Mi")
        found = bench(where, methods=options.methods, repeats=options.repeats, steps=options.steps)
    target = "tokens/s at least 0.98 of trl's; less memory for lora than for full, and for qlora than for lora"
    publish("Fine-tuning", found, target=target, json_file=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
