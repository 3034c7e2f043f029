"""What every rank's life has in common: it meets the others, works, and says how it went."""

import datetime
import logging
import os
from collections.abc import Callable

import torch.distributed as dist

from lmforge_api.run import ExitCode, ExitReport, ProgressReport
from lmforge_workloads.common.exits import PeerLost, WorkloadError, classify, last_words, write_exit_report
from lmforge_workloads.common.guards import StopSignal
from lmforge_workloads.common.launch import Place, Run
from lmforge_workloads.common.progress import Reporter

log = logging.getLogger(__name__)

Work = Callable[[Run, Place, Reporter, StopSignal], None]


def live(run: Run, place: Place, work: Work[Run], *, steps: int) -> ExitCode:
    """Work to the end and say how it went. Never raises. `steps` are those known beforehand."""
    first = ProgressReport(attempt=run.attempt, steps=steps)
    with Reporter(run.progress if place.rank == 0 else None, first) as reporter:
        stop = StopSignal(end=ender(place, reporter))
        try:
            stop.install()
            work(run, place, reporter, stop)
        except BaseException as error:
            unknown = classify(error).exit_code == ExitCode.INTERNAL
            log.error("rank %d ends: %s", place.rank, error, exc_info=unknown)
            report = reporter.report
            return last_words(place.words, error, step=report.step, rank=place.rank, progress=report)
        reporter.update(stage="Finished")
        report = reporter.report
        words = ExitReport(reason="Completed", step=report.step, rank=place.rank, progress=report)
        write_exit_report(place.words, words)
    return ExitCode.OK


def ender(place: Place, reporter: Reporter) -> Callable[[WorkloadError], None]:
    """For threads that see that it is over while the main thread may be stuck."""

    def end(error: WorkloadError) -> None:
        report = reporter.report
        os._exit(last_words(place.words, error, step=report.step, rank=place.rank, progress=report))

    return end


def rendezvous(run: Run, place: Place) -> None:
    """Meet all ranks. Raises `PeerLost` when some do not come."""
    timeout = datetime.timedelta(seconds=run.spec.failure_policy.hang_timeout_seconds + 60)
    try:
        store = dist.TCPStore(  # type: ignore[attr-defined]
            place.host,
            place.port,
            world_size=run.world_size,
            is_master=place.rank == 0,
            wait_for_workers=False,
            timeout=timeout,
            master_listen_fd=place.listener,
        )
        backend = "nccl" if place.device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=place.rank, world_size=run.world_size, timeout=timeout)
    except dist.DistError as error:
        message = f"not all {run.world_size} ranks met at {place.host}:{place.port}: {error}"
        raise PeerLost(message) from error
