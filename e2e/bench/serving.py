"""Bench (e), serving: what router and gateway together cost, and how soon the autoscaler reacts to a queue.

    python -m e2e.bench.serving --repeats 5 --json serving.json

One vLLM pod with a real model on CPU. The same kind of requests go by turns to the engine's pod alone and to the
gateway's, which passes them on through the router: single streams for the time to the first token (each with a
prompt of its own, so that neither finds the other's in the cache), then several at once for tokens a second. For the
autoscaler, a service that runs two requests at a time gets eight: seconds until it wishes for its second replica.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

from e2e.bench import place as places
from e2e.bench.report import Sample, publish, ratios
from e2e.bench.serving_load import Place, stream, throughput
from e2e.cluster.paths import default_paths
from e2e.lmforge import Kube
from e2e.serving import inference_service, put_model
from lmforge_operator.serving.engines.engine import PORT as ENGINE_PORT
from lmforge_operator.serving.front.gateway import GATEWAY_PORT

NAME = "bench"
AT_ONCE = 4
READY_SECONDS = 400.0
COST_TARGET = "0.97 of the engine's tokens/s, at most 3 ms added to the first token"
WORDS = ("river", "stone", "window", "garden", "letter", "morning", "copper", "lantern", "harbour", "winter", "silver")


def prompt(source: random.Random) -> str:
    """Some sixty words that nobody has asked before."""
    return " ".join(source.choice(WORDS) for _ in range(60))


def serve(kube: Kube, *, cpu: str = "1", **spec: Any) -> None:
    """The service, Ready with one replica, and nothing of a former one left."""
    kube("delete", "isvc", NAME, "--ignore-not-found", "--wait=true", "--timeout=120s")
    kube("wait", "pods", "-l", "lmforge.dev/role=engine", "--for=delete", "--timeout=120s")
    resources = {"cpu": cpu, "memory": "4Gi", "sharedMemory": "512Mi"}
    kube.apply(inference_service(NAME, gateway={}, resources=resources, **spec))
    kube.wait(f"isvc/{NAME}", lambda s: s.get("phase") == "Ready", what="a replica that answers", seconds=READY_SECONDS)


def pod_of(kube: Kube, role: str, port: int, name: str) -> Place:
    """The one pod of a role, reached directly."""
    (pod,) = kube.items("pods", "-l", f"lmforge.dev/role={role}")
    return Place(name, pod["status"]["podIP"], port, NAME)


def cost(kube: Kube, *, repeats: int, requests: int) -> list[Sample]:
    """First tokens and throughput, by turns."""
    serve(kube, replicas=1)
    alone, through = (
        pod_of(kube, "engine", ENGINE_PORT, "engine alone"),
        pod_of(kube, "gateway", GATEWAY_PORT, "through"),
    )
    source = random.Random(0)
    firsts: dict[str, list[float]] = {alone.name: [], through.name: []}
    added: list[float] = []
    rates: dict[str, list[float]] = {alone.name: [], through.name: []}
    for number in range(-1, repeats):  # the first round warms up
        order = (alone, through) if number % 2 == 0 else (through, alone)
        first: dict[str, list[float]] = {alone.name: [], through.name: []}
        for _ in range(requests):
            for place in order:
                first[place.name].append(1000 * stream(place, prompt(source), tokens=4).first)
        pairs = zip(first[through.name], first[alone.name], strict=True)  # neighbours in time
        differences = [ours - other for ours, other in pairs]
        for place in order:
            prompts = [prompt(source) for _ in range(4 * AT_ONCE)]
            rate = throughput(place, prompts, at_once=AT_ONCE, tokens=64)
            if number >= 0:
                rates[place.name].append(rate)
                firsts[place.name].append(statistics.median(first[place.name]))
        if number >= 0:
            added.append(statistics.median(differences))
    mine, theirs = firsts[through.name], firsts[alone.name]
    samples = {name: Sample(f"tokens/s, {name}", "1/s", values) for name, values in rates.items()}
    return [
        Sample("first token, engine alone", "ms", theirs),
        Sample("first token, through router and gateway", "ms", mine),
        Sample("added to the first token", "ms", added),
        *samples.values(),
        ratios(samples[through.name], samples[alone.name]),
    ]


def reactions(kube: Kube, *, repeats: int) -> Sample:
    """Seconds from a queue to the wish for another replica."""
    args = {"maxModelLen": 1024, "extra": {"max-num-seqs": "2"}}
    scaling = {
        "minReplicas": 1, "maxReplicas": 2, "scaleDownDelaySeconds": 5, "targets": {"waitingRequests": 2},
    }  # fmt: skip
    # Two busy engines that ask for all of two cores would leave the operator, which is measured here, none of them.
    serve(kube, cpu="200m", engineArgs=args, autoscaling=scaling)
    found = []
    for number in range(repeats):
        place = pod_of(kube, "gateway", GATEWAY_PORT, "through")
        source = random.Random(number)
        clients = [
            threading.Thread(target=stream, args=(place, prompt(source)), kwargs={"tokens": 400}) for _ in range(8)
        ]
        began = time.monotonic()
        for client in clients:
            client.start()
        kube.wait(f"isvc/{NAME}", lambda s: _wished(s) == 2, what="the wish for a second replica", seconds=60)
        found.append(time.monotonic() - began)
        for client in clients:
            client.join()
        kube.wait(
            f"isvc/{NAME}",
            lambda s: _wished(s) == 1 and not s["replicas"].get("draining") and s.get("ready") == "1/1",
            what="one replica again",
            seconds=READY_SECONDS,
        )
    return Sample("from a queue to the wish for a replica", "s", found)


def _wished(status: dict[str, Any]) -> int:
    return int((status.get("replicas") or {}).get("desired") or 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="rounds of each")
    parser.add_argument("--requests", type=int, default=30, help="single streams to each side in a round")
    parser.add_argument("--json", type=Path, help="where to write the result")
    options = parser.parse_args()
    with places.place("serving") as where:
        put_model(where.kube, default_paths())
        samples = cost(where.kube, repeats=options.repeats, requests=options.requests)
        publish("Serving", samples, target=COST_TARGET)  # it isn't lost when what follows fails
        samples.append(reactions(where.kube, repeats=min(3, options.repeats)))
    publish("Serving", samples, target=f"{COST_TARGET}; a wish within 5 s", json_file=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
