"""Pods of a TrainingJob as processes: each runs the trainer's own main process, which forks its ranks."""

import contextlib
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
from worlds import CONTEXT, start

from lmforge_api.run import ExitReport, Rendezvous, TrainingRun
from lmforge_workloads.common import checkpoints, launch, metrics
from lmforge_workloads.train import data, startup

TIMEOUT = 120.0


@dataclass
class Pod:
    """A running pod."""

    process: BaseProcess
    run: TrainingRun
    log: Path

    def ranks(self) -> list[psutil.Process]:
        """Its ranks' processes, in order."""
        return sorted(psutil.Process(self.process.pid).children(), key=lambda child: child.pid)

    def exit_code(self, timeout: float = TIMEOUT) -> int:
        """Wait for its end. 128 + n when signal n ended it, as Kubernetes has it."""
        self.process.join(timeout)
        code = self.process.exitcode
        assert code is not None, f"the pod did not end: {self.log.read_text()[-3000:]}"
        return code if code >= 0 else 128 - code

    def words(self) -> ExitReport:
        """What is in its termination log."""
        return ExitReport.model_validate_json(Path(self.run.termination_log).read_bytes())

    def kill(self) -> None:
        """As a node that loses power."""
        self.process.kill()
        self.process.join()


@contextlib.contextmanager
def pods(run: TrainingRun, *, before: Callable[[], None] | None = None) -> Iterator[list[Pod]]:
    """Start all pods of an attempt; none is left behind."""
    run = run.model_copy(update={"rendezvous": Rendezvous(host="localhost", port=_free_port())})
    started = []
    for node in range(run.nodes):
        log = Path(run.store.root) / f"attempt-{run.attempt}-pod-{node}.log"
        mine = run.model_copy(update={"termination_log": str(log.with_suffix(".words"))})
        process = CONTEXT.Process(target=_pod, args=(mine, node, log, before))
        start(process)
        started.append(Pod(process, mine, log))
    try:
        yield started
    finally:
        for pod in started:
            pod.kill()


def finish(run: TrainingRun) -> list[Pod]:
    """Run an attempt to its end, which must be a good one."""
    with pods(run) as started:
        for pod in started:
            assert pod.exit_code() == 0, pod.log.read_text()[-5000:]
        return started


def wait_for_step(run: TrainingRun, step: int) -> None:
    """Until an attempt has logged this step."""
    deadline = time.monotonic() + TIMEOUT
    while not any(record["step"] >= step for record in metrics.history(Path(run.store.root))):
        assert time.monotonic() < deadline, f"step {step} was not reached"
        time.sleep(0.01)


def wait_for_checkpoint(run: TrainingRun) -> None:
    """Until there is one."""
    deadline = time.monotonic() + TIMEOUT
    while not checkpoints.complete_steps(Path(run.store.root)):
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.01)


def losses(run: TrainingRun) -> dict[int, float]:
    """Training loss of every step, over all attempts."""
    records = metrics.history(Path(run.store.root))
    return {int(record["step"]): record["loss"] for record in records if "loss" in record}


def copy_tokens(run: TrainingRun, tokens: Path) -> TrainingRun:
    """Give a run tokens that were made before, so that each test needn't."""
    root = Path(run.store.root)
    root.mkdir(parents=True, exist_ok=True)
    shutil.copytree(tokens, root / "data")
    assert data.find(run) is not None
    return run


def _pod(run: TrainingRun, node: int, log: Path, before: Callable[[], None] | None) -> None:
    descriptor = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if before is not None:
        before()
    sys.exit(launch.run_pod(run, node_rank=node, program=startup.program))


def _free_port() -> int:
    """Two pods need a port that both know: one that the kernel has just given away, and will not soon again."""
    with socket.create_server(("localhost", 0)) as server:
        port: Any = server.getsockname()[1]
        return int(port)
