"""TrainingJobs as scenarios use them, and what is left of a run in its store."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from e2e.cluster.errors import CommandFailed
from e2e.lmforge import Kube, Manifest

OWNER = "lmforge.dev/name"
ATTEMPT = "lmforge.dev/attempt"
READER = "store-reader"
STORE_CLAIM = "lmforge-store"
LITTLE_TEXT = "pvc://corpus/little"


def training_job(name: str, spec: Manifest) -> Manifest:
    """The object."""
    return {"apiVersion": "lmforge.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": name}, "spec": spec}


def little(name: str, **spec: Any) -> Manifest:
    """A run of one process that takes seconds; `spec` replaces top-level fields."""
    return training_job(
        name,
        {
            "model": {"init": {"architecture": "llama", "layers": 2, "hiddenSize": 32, "heads": 4}},
            "dataset": {"uri": LITTLE_TEXT, "tokenizer": {"train": {"vocabSize": 320}}},
            "sequenceLength": 64,
            "precision": "fp32",
            "batch": {"global": 8, "micro": 4},
            "optimizer": {"learningRate": 0.005},
            "steps": 100,
            "checkpoint": {"everySteps": 20},
            "evaluation": {"holdout": 0.2, "samples": 8, "everySteps": 100_000},
            "resources": {"cpu": "50m", "memory": "2Gi", "sharedMemory": "256Mi"},
            **spec,
        },
    )


def pair(name: str, **spec: Any) -> Manifest:
    """The same over two pods on two nodes, with data parallelism: ranks that depend on each other."""
    return little(name, **{"parallelism": {"data": 2}, "nodes": 2, **spec})


@dataclass(frozen=True)
class Run:
    """What there is of a TrainingJob, or of another kind that runs."""

    kube: Kube
    name: str
    kind: str = "trainingjob"

    @property
    def reference(self) -> str:
        """For kubectl."""
        return f"{self.kind}/{self.name}"

    def pods(self, *, attempt: int | None = None) -> list[Manifest]:
        """Its pods, of one attempt or of all."""
        which = f"{OWNER}={self.name}" + (f",{ATTEMPT}={attempt}" if attempt else "")
        return self.kube.items("pods", "-l", which)

    def pod(self, index: int, *, attempt: int = 1) -> str:
        """Name of the pod with this node rank."""
        label = "batch.kubernetes.io/job-completion-index"
        return next(
            str(pod["metadata"]["name"])
            for pod in self.pods(attempt=attempt)
            if pod["metadata"]["labels"][label] == str(index)
        )

    def active_jobs(self) -> list[str]:
        """Jobs that are neither finished nor being deleted."""
        jobs = self.kube.items("jobs", "-l", f"{OWNER}={self.name}")
        return [
            str(job["metadata"]["name"])
            for job in jobs
            if "deletionTimestamp" not in job["metadata"]
            and not any(c["type"] in ("Complete", "Failed") and c["status"] == "True"
                        for c in job["status"].get("conditions", ()))
        ]  # fmt: skip

    def wait_checkpoint(self, *, beyond: int = 0, seconds: float = 90) -> Manifest:
        """Until it has a checkpoint after this step, and is training."""
        return self.kube.wait(
            self.reference,
            lambda s: s.get("phase") == "Running" and s.get("checkpoint", {}).get("step", 0) > beyond,
            what=f"training with a checkpoint beyond step {beyond}",
            seconds=seconds,
        )

    def wait_succeeded(self, *, seconds: float = 120) -> Manifest:
        """Until it has succeeded."""
        return self.kube.wait_phase(self.reference, "Succeeded", seconds=seconds)

    @property
    def store(self) -> str:
        """Its directory below the store's root."""
        meta = self.kube.get(self.reference)["metadata"]
        return f"{self.kind}/{meta['namespace']}/{self.name}-{meta['uid'][:8]}"

    def lines(self, path: str) -> list[Manifest]:
        """A file of JSON lines in its directory."""
        text = in_store(self.kube, f"cat {self.store}/{path}")
        return [json.loads(line) for line in text.splitlines()]

    def steps_of(self, attempt: int) -> tuple[int, list[int]]:
        """Where an attempt started, and every step that it did, in order."""
        head, *records = self.lines(f"attempts/{attempt:04}/metrics.jsonl")
        return int(head["start_step"]), [int(record["step"]) for record in records if "loss" in record]


def assert_nothing_lost_or_doubled(run: Run, status: Manifest) -> None:
    """Each attempt goes on from a checkpoint of the one before, makes every step once, and repeats at most so many."""
    spec = run.kube.get(run.reference)["spec"]
    every, steps = spec["checkpoint"]["everySteps"], spec["steps"]
    attempts = status["attempts"]
    assert [attempt["number"] for attempt in attempts] == list(range(1, len(attempts) + 1))
    done = [run.steps_of(attempt["number"]) for attempt in attempts if attempt["step"] > attempt["startStep"]]
    for start, made in done:
        assert made == list(range(start + 1, start + 1 + len(made)))
    for (_, before), (start, _) in pairwise(done):
        assert start <= before[-1], f"steps {before[-1] + 1} to {start} were never made"
        assert start % every == 0 or start == before[-1], f"step {start} is no checkpoint's, nor the last"
        assert before[-1] - start <= every, f"{before[-1] - start} steps were lost, and checkpoints are {every} apart"
    assert done[-1][1][-1] == steps
    artifact = run.lines("artifact/metrics.jsonl")
    assert [record["step"] for record in artifact if "loss" in record] == list(range(1, steps + 1))
    assert run.active_jobs() == []


def in_store(kube: Kube, script: str) -> str:
    """Runs a shell script in the root of the namespace's store."""
    if not kube("get", "pod", READER, "--ignore-not-found"):
        _start_reader(kube)
    kube("wait", f"pod/{READER}", "--for=condition=Ready", "--timeout=90s")  # another thread may be starting it
    return kube("exec", READER, "--", "sh", "-ec", f"cd /store; {script}")


def _start_reader(kube: Kube) -> None:
    """A pod that mounts the store, with the operator's image: that has a shell, and the nodes have it already."""
    found = kube.within("lmforge-system").items("deployments", "-l", "app.kubernetes.io/name=lmforge")
    image = found[0]["spec"]["template"]["spec"]["containers"][0]["image"]
    user = {"runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532}
    container = {
        "name": "sh",
        "image": image,
        "command": ["sleep", "3600"],
        "volumeMounts": [{"name": "store", "mountPath": "/store"}],
    }
    volume = {"name": "store", "persistentVolumeClaim": {"claimName": STORE_CLAIM}}
    spec = {"containers": [container], "volumes": [volume], "securityContext": user, "terminationGracePeriodSeconds": 0}
    kube.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": READER}, "spec": spec})


def exists(kube: Kube, reference: str) -> bool:
    """Whether there is such an object."""
    try:
        return bool(kube("get", reference, "--ignore-not-found"))
    except CommandFailed:
        return False
