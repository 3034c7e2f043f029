"""Bench (f), routing: conversations over two replicas, cache_aware against round_robin.

    python -m e2e.bench.routing --repeats 5 --json routing.json

Two vLLM pods with a real model on CPU, one service. By turns its router has the one policy and the other. In each
round new conversations, each with a long beginning of its own, go on turn by turn in random order, two at a time: the
whole conversation is sent each time, as chat clients do. Told are the time to the first token of the turns that follow
on the first, and which share of their tokens the replicas had in their caches (both sides include the turns' own new
words, which nobody can have).
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from e2e.bench import place as places
from e2e.bench.report import Sample, publish, ratios
from e2e.bench.serving import NAME, WORDS, pod_of, serve
from e2e.bench.serving_load import Place, stream
from e2e.cluster.paths import default_paths
from e2e.lmforge import Kube
from e2e.serving import put_model
from lmforge_operator.serving.engines.engine import PORT as ENGINE_PORT
from lmforge_operator.serving.front.router import PORT as ROUTER_PORT

POLICIES = ("cache_aware", "round_robin")
CONVERSATIONS = 8
TURNS = 4
AT_ONCE = 2
BEGINNING_WORDS = 300
TURN_WORDS = 30
ANSWER_TOKENS = 16


@dataclass
class Conversation:
    """What was said so far, and how long the first token of each further turn took, in milliseconds."""

    text: str
    firsts: list[float]

    def go_on(self, place: Place, words: str) -> None:
        """One turn more."""
        self.text += f"\n{words}\n"
        answer = stream(place, self.text, tokens=ANSWER_TOKENS)
        self.text += answer.text
        self.firsts.append(1000 * answer.first)


@dataclass(frozen=True)
class Cache:
    """Tokens of prompts that all replicas looked up and found."""

    asked: float
    found: float


def said(source: random.Random, words: int) -> str:
    """Words that nobody has said before in this order."""
    return " ".join(source.choice(WORDS) for _ in range(words))


def talk(place: Place, source: random.Random) -> list[Conversation]:
    """All conversations to their end. The turns' order is random: in a fixed one, round_robin could be lucky."""
    conversations = [Conversation(said(source, BEGINNING_WORDS), []) for _ in range(CONVERSATIONS)]
    for turn in range(TURNS):
        source.shuffle(conversations)
        words = [said(source, TURN_WORDS) for _ in conversations]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda one, new: one.go_on(place, new), conversations, words))
        assert all(len(each.firsts) == turn + 1 for each in conversations)
    return conversations


def caches(kube: Kube) -> Cache:
    """What the replicas' own metrics say."""
    totals = {"vllm:prefix_cache_queries_total": 0.0, "vllm:prefix_cache_hits_total": 0.0}
    for pod in kube.items("pods", "-l", "lmforge.dev/role=engine"):
        with urlopen(f"http://{pod['status']['podIP']}:{ENGINE_PORT}/metrics", timeout=10) as answer:
            families = text_string_to_metric_families(answer.read().decode())
        for sample in (sample for family in families for sample in family.samples):
            if sample.name in totals:
                totals[sample.name] += sample.value
    asked, found = totals.values()
    return Cache(asked, found)


def choose(kube: Kube, policy: str) -> Place:
    """The router with this policy, and no other any more."""
    deployment = f"deployment/{NAME}-router"
    before = kube("get", "pods", "-l", "lmforge.dev/role=router", "-o", "name").split()
    if kube("get", "isvc", NAME, "-o", "jsonpath={.spec.router.policy}") != policy:
        kube("patch", "isvc", NAME, "--type=merge", "-p", f'{{"spec":{{"router":{{"policy":"{policy}"}}}}}}')
        told = "{.spec.template.spec.containers[0].command[6]}"
        kube("wait", deployment, f"--for=jsonpath={told}={policy}", "--timeout=60s")
        kube("rollout", "status", deployment, "--timeout=120s")
        kube("wait", *before, "--for=delete", "--timeout=120s")
    return pod_of(kube, "router", ROUTER_PORT, policy)


def compare(kube: Kube, *, repeats: int) -> list[Sample]:
    """Rounds by turns."""
    serve(kube, replicas=2, router={"policy": POLICIES[0]})
    firsts: dict[str, list[float]] = {policy: [] for policy in POLICIES}
    rates: dict[str, list[float]] = {policy: [] for policy in POLICIES}
    for number in range(repeats):
        for policy in POLICIES if number % 2 else reversed(POLICIES):
            place = choose(kube, policy)
            before = caches(kube)
            conversations = talk(place, random.Random(f"{number} {policy}"))
            after = caches(kube)
            firsts[policy].append(statistics.median(first for each in conversations for first in each.firsts[1:]))
            rates[policy].append((after.found - before.found) / (after.asked - before.asked))
    waits = [Sample(f"first token, {policy}", "ms", values) for policy, values in firsts.items()]
    hits = [Sample(f"tokens found in caches, {policy}", "", values) for policy, values in rates.items()]
    return [*waits, ratios(*waits), *hits]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="rounds of each policy")
    parser.add_argument("--json", type=Path, help="where to write the result")
    options = parser.parse_args()
    with places.place("routing") as where:
        put_model(where.kube, default_paths())
        samples = compare(where.kube, repeats=options.repeats)
    publish("Routing", samples, target="sooner first tokens and more found in caches", json_file=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
