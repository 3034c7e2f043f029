"""Bench (d), gateway: what it adds to a request and to a thousand streams, against the same engine's stand-in directly.

    python -m e2e.bench.gateway --repeats 5 --json gateway.json

Short requests go one after the other on one connection, by turns to the stub, through a gateway that passes all on, and
through one with keys, limits and accounts. Streams begin within 4 s and run a thousand at a time, 10 tokens a second
each, by turns to the stub and through the gateway; the stub writes the time into each token. All on loopback: stub,
gateway and clients are processes of their own, and share the machine's cores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e2e.bench.report import Sample, publish
from lmforge_api.gateway import key_hash, key_text

KEY = key_text(bytes(24))
REQUESTS = 400
KEYED: Mapping[str, Any] = {"auth": {"secretName": "keys"}, "rateLimits": {"tokensPerMinute": 10_000_000_000}}
_TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def stub(*, tokens: int, milliseconds: float) -> Iterator[int]:
    """The engine's stand-in: its port."""
    options = ["--tokens", str(tokens), "--milliseconds", str(milliseconds)]
    with _process("e2e.bench.gateway_stub", *options, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())


@contextmanager
def gateway(engine: int, directory: Path, spec: Mapping[str, Any]) -> Iterator[tuple[int, int]]:
    """A gateway before it: its port and its process's ID."""
    keys = directory / "keys"
    keys.mkdir(parents=True)
    (keys / "bench").write_text(json.dumps({"hash": key_hash(KEY)}))
    config = directory / "gateway.json"
    config.write_text(json.dumps({
        "namespace": "bench", "name": "bench", "model": "bench", "gateway": spec, "keysPath": str(keys),
        "upstream": {"url": f"http://127.0.0.1:{engine}"},
        "listen": {"host": "127.0.0.1", "port": 0, "metricsPort": 0}, "unreadySeconds": 0, "drainSeconds": 1,
    }))  # fmt: skip
    module = "lmforge_workloads.serve.gateway"
    with _process(module, "--config", str(config), stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if (told := json.loads(line))["message"] == "listening":
                yield told["port"], process.pid
                return
        raise RuntimeError(f"the gateway ended: {process.wait()}")


@contextmanager
def _process(module: str, *options: str, **pipes: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-m", module, *options], **pipes)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def load(what: str, port: int, **options: object) -> dict[str, list[float]]:
    """What clients saw."""
    named = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "e2e.bench.gateway_load", what, "--port", str(port), "--key", KEY, *named]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=120)
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory_kib(pid: int) -> float:
    """Resident memory of a process at its highest so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return float(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def short_requests(directory: Path, *, repeats: int) -> Sequence[Sample]:
    """Medians of short requests by turns, and what each gateway adds to the stub's."""
    medians: dict[str, list[float]] = {"direct": [], "gateway": [], "gateway, keys": []}
    with (
        stub(tokens=1, milliseconds=1) as engine,
        gateway(engine, directory / "plain", {}) as (plain, _),
        gateway(engine, directory / "keyed", KEYED) as (keyed, _),
    ):
        ports = {"direct": engine, "gateway": plain, "gateway, keys": keyed}
        for number in range(-1, repeats):  # the first round warms up
            for name in sorted(ports, reverse=number % 2 == 0):
                median = statistics.median(load("short", ports[name], requests=REQUESTS)["milliseconds"])
                if number >= 0:
                    medians[name].append(median)
    direct = medians["direct"]
    added = [
        Sample(
            f"added by the {name}", "ms", [mine - theirs for mine, theirs in zip(medians[name], direct, strict=True)]
        )
        for name in ("gateway", "gateway, keys")
    ]
    return [*(Sample(f"a request, {name}", "ms", values) for name, values in medians.items()), *added]


def many_streams(directory: Path, spec: Mapping[str, Any], *, repeats: int, streams: int, tokens: int) -> list[Sample]:
    """Delays of tokens by turns, and what the gateway took for them."""
    found: dict[str, list[float]] = {}
    with stub(tokens=tokens, milliseconds=100) as engine:
        for number in range(repeats):
            for name in ("direct", "gateway") if number % 2 == 0 else ("gateway", "direct"):
                if name == "direct":
                    _note(found, name, load("stream", engine, streams=streams))
                    continue
                with gateway(engine, directory / f"streams-{number}", spec) as (port, pid):
                    load("short", port, requests=50)
                    cpu, memory = cpu_seconds(pid), memory_kib(pid)
                    _note(found, name, load("stream", port, streams=streams))
                    used = cpu_seconds(pid) - cpu
                    found.setdefault("gateway's CPU, µs a token", []).append(used * 1e6 / streams / tokens)
                    found.setdefault("gateway's memory, KiB a stream", []).append((memory_kib(pid) - memory) / streams)
    for what in ("first token, median", "token's way, median", "token's way, 99th percentile"):
        pairs = zip(found[f"{what}, gateway"], found[f"{what}, direct"], strict=True)
        found[f"added to {what}"] = [mine - theirs for mine, theirs in pairs]
    return [Sample(name, "" if "CPU" in name or "memory" in name else "ms", values) for name, values in found.items()]


def _note(found: dict[str, list[float]], name: str, seen: Mapping[str, list[float]]) -> None:
    found.setdefault(f"first token, median, {name}", []).append(statistics.median(seen["first"]))
    found.setdefault(f"token's way, median, {name}", []).append(statistics.median(seen["delays"]))
    found.setdefault(f"token's way, 99th percentile, {name}", []).append(
        statistics.quantiles(seen["delays"], n=100)[98]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="rounds of each")
    parser.add_argument("--streams", type=int, default=1000, help="at a time")
    parser.add_argument("--tokens", type=int, default=80, help="of a stream, 10 a second")
    parser.add_argument("--keys", action="store_true", help="streams through a gateway with keys, limits and accounts")
    parser.add_argument("--json", type=Path, help="where to write the result")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        samples = [
            *short_requests(Path(directory), repeats=options.repeats),
            *many_streams(
                Path(directory), KEYED if options.keys else {}, repeats=options.repeats, streams=options.streams,
                tokens=options.tokens,
            ),
        ]  # fmt: skip
    target = "at most 3 ms added to a request by gateway and router together, of which the router adds 1.7"
    publish("Gateway", samples, target=target, json_file=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
