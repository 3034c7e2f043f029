"""The pod's main process: imports once, forks the ranks, forwards SIGTERM, and ends with the first rank that fails.

Ranks are static: node rank × processes a node + local rank. Nothing is restarted here: the operator starts the next
attempt.
"""

import ctypes
import gc
import logging
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Generic, NoReturn, TypeVar

from lmforge_api.run import ExitCode, ExitReport, FineTuneRun, TrainingRun
from lmforge_workloads.common import logs
from lmforge_workloads.common.exits import Suspended, last_words, write_exit_report

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

GRACE_SECONDS = 1.0
"""After the first failure, for the other ranks to say what they saw: one of them may know the cause."""
_POLL_SECONDS = 0.02
_BACKLOG = 4096
_GOOD = (ExitCode.OK, ExitCode.SUSPENDED)


@dataclass(frozen=True)
class Ending:
    """How a rank ended."""

    rank: int
    code: int
    report: ExitReport | None


@dataclass(frozen=True)
class Place:
    """Which process this is."""

    rank: int
    local_rank: int
    words: Path
    """Where its last words go; the pod's main process makes the termination log of them."""
    host: str
    port: int
    """Where ranks meet."""
    listener: int | None
    """Rank 0: the socket that its pod has been listening on since it started."""
    started: float
    """time.time() when the pod's main process began."""
    device: "torch.device"


Run = TypeVar("Run", TrainingRun, FineTuneRun)
Live = Callable[[Run, Place], ExitCode]
"""A rank's life: works to the end and says how it went. Never raises."""


@dataclass(frozen=True)
class _Pod(Generic[Run]):
    """What the ranks of this pod have in common."""

    run: Run
    node_rank: int
    life: Live[Run]
    words: Path
    listener: socket.socket | None
    started: float

    def rank(self, local_rank: int) -> int:
        return self.node_rank * self.run.processes_per_node + local_rank

    def place(self, local_rank: int) -> Place:
        """Of the process that asks: its device is chosen with it."""
        rank, meeting, listener = self.rank(local_rank), self.run.rendezvous, self.listener
        return Place(
            rank=rank,
            local_rank=local_rank,
            words=_words(self.words, rank),
            host=meeting.host if listener is None else "localhost",
            port=meeting.port if listener is None else listener.getsockname()[1],
            listener=listener.fileno() if listener is not None and rank == 0 else None,
            started=self.started,
            device=_device(self.run, local_rank),
        )


def run_pod(run: Run, *, node_rank: int, program: Callable[[Run], Live[Run]]) -> int:
    """Run this pod's ranks; the exit code for the pod. `program` imports what all ranks need, once."""
    started = time.time()
    listener = _listen(run) if node_rank == 0 else None
    ranks: dict[int, int] = {}  # process id -> rank, of those that run
    _forward_sigterm(ranks, run)
    os.environ.setdefault("OMP_NUM_THREADS", str(_threads(run)))
    life = program(run)
    log.info("libraries imported in %.1f s", time.time() - started)
    words = Path(tempfile.mkdtemp(prefix="lmforge-"))
    pod = _Pod(run, node_rank, life, words, listener, started)
    try:
        # A SIGTERM that comes while ranks are forked waits until all of them are there, and can handle it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        gc.freeze()  # ranks share the libraries' memory with this process until a collection writes to it
        for local_rank in range(run.processes_per_node):
            ranks[_fork(pod, local_rank)] = pod.rank(local_rank)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        ending = supervise(ranks, words)
    finally:
        shutil.rmtree(words, ignore_errors=True)
    if ending.report is not None:
        write_exit_report(run.termination_log, ending.report)
    return ending.code


def supervise(running: dict[int, int], words: Path) -> Ending:
    """Wait for the ranks (process id -> rank). When one fails, end the others and tell the cause."""
    endings, deadline = list[Ending](), float("inf")
    while running and time.monotonic() < deadline:
        process, status = os.waitpid(-1, os.WNOHANG)
        if process == 0:
            time.sleep(_POLL_SECONDS)
        elif process in running:
            endings.append(_ending(running.pop(process), status, words))
            if endings[-1].code not in _GOOD and deadline == float("inf"):
                deadline = time.monotonic() + GRACE_SECONDS
                _signal(running, signal.SIGUSR1 if endings[-1].code == ExitCode.HANG else None)
    _signal(running, signal.SIGKILL)
    for process in running:
        os.waitpid(process, 0)
    return verdict(endings)


def verdict(endings: list[Ending]) -> Ending:
    """The ending that tells the cause: the first failure that isn't only the loss of another rank.

    Rank 0 knows how far the run is; its newest progress goes into the report whoever failed.
    """
    failures = [ending for ending in endings if ending.code not in _GOOD]
    causes = [ending for ending in failures if ending.code != ExitCode.PEER_LOST]
    chosen = (causes or failures or sorted(endings, key=lambda ending: (-ending.code, ending.rank)))[0]
    progress = next((e.report.progress for e in endings if e.rank == 0 and e.report is not None), None)
    report = chosen.report or _killed(chosen)
    return Ending(chosen.rank, chosen.code, report.model_copy(update={"progress": progress}))


def _killed(ending: Ending) -> ExitReport:
    """For a rank that could say nothing."""
    if ending.code > 128:
        name = signal.Signals(ending.code - 128).name
        hint = ": most likely out of memory" if name == "SIGKILL" else ""
        return ExitReport(reason="Killed", message=f"rank {ending.rank} was ended by {name}{hint}", rank=ending.rank)
    message = f"rank {ending.rank} ended with exit code {ending.code} without a word: see its log"
    return ExitReport(reason="InternalError", message=message, rank=ending.rank)


def _ending(rank: int, status: int, words: Path) -> Ending:
    code = os.waitstatus_to_exitcode(status)
    try:
        report = ExitReport.model_validate_json(_words(words, rank).read_bytes())
    except (OSError, ValueError):
        report = None
    return Ending(rank, code if code >= 0 else 128 - code, report)


def _fork(pod: _Pod[Run], local_rank: int) -> int:
    process = os.fork()
    if process == 0:
        _be_rank(pod, local_rank)
    return process


def _be_rank(pod: _Pod[Run], local_rank: int) -> NoReturn:
    """What a forked process does. It leaves by `os._exit`: the parent's clean-up is not its own."""
    code: int = ExitCode.INTERNAL
    run, rank = pod.run, pod.rank(local_rank)
    try:
        _die_with_parent()
        logs.configure(rank=rank)
        place = pod.place(local_rank)
        # DeepSpeed and accelerate read these.
        os.environ.update(
            RANK=str(rank),
            LOCAL_RANK=str(local_rank),
            WORLD_SIZE=str(run.world_size),
            LOCAL_SIZE=str(run.processes_per_node),
            LOCAL_WORLD_SIZE=str(run.processes_per_node),
            MASTER_ADDR=place.host,
            MASTER_PORT=str(place.port),
        )
        code = pod.life(run, place)
    except BaseException:
        log.exception("rank %d can't begin", rank)
    finally:
        logging.shutdown()
        os._exit(code)


def _device(run: TrainingRun | FineTuneRun, local_rank: int) -> "torch.device":
    import torch

    torch.set_num_threads(_threads(run))
    if run.spec.resources.accelerator is None:
        return torch.device("cpu")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def _threads(run: TrainingRun | FineTuneRun) -> int:
    """What the pod asked for, shared by its ranks: more threads than CPUs slow all ranks of a node down."""
    requested = run.spec.resources.cpu
    cpus = float(requested.removesuffix("m")) / 1000 if requested.endswith("m") else float(requested)
    return max(1, int(cpus) // run.processes_per_node)


def _listen(run: TrainingRun | FineTuneRun) -> socket.socket:
    """Listen before anything slow: the others' connections then succeed at once, and wait for rank 0 to answer."""
    port = run.rendezvous.port if run.nodes > 1 else 0  # nobody else needs to know it
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG)
    return socket.create_server(("", port), backlog=_BACKLOG)


def _forward_sigterm(ranks: dict[int, int], run: TrainingRun | FineTuneRun) -> None:
    """To the ranks, which save; before there are any, there is nothing to save."""

    def forward(number: int, frame: FrameType | None) -> None:
        log.info("asked to stop")
        if not ranks:
            os._exit(last_words(run.termination_log, Suspended("stopped before its ranks were started")))
        _signal(ranks, signal.SIGTERM)

    signal.signal(signal.SIGTERM, forward)


def _signal(processes: dict[int, int], number: signal.Signals | None) -> None:
    for process in processes if number is not None else ():
        try:
            os.kill(process, number)  # type: ignore[arg-type]
        except ProcessLookupError:
            continue


def _die_with_parent() -> None:
    """PR_SET_PDEATHSIG: no rank outlives the pod's main process."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _words(words: Path, rank: int) -> Path:
    return words / f"rank-{rank}.json"
