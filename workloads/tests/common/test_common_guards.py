"""What ends a run, and whose word counts."""

import math
import subprocess
import sys
import time
from typing import Any

import pytest

from lmforge_api.run import ExitCode, ExitReport, ProgressReport
from lmforge_workloads.common.exits import HangDetected, NonFiniteLoss
from lmforge_workloads.common.guards import Watchdog, check_finite
from lmforge_workloads.common.launch import Ending, verdict


@pytest.mark.parametrize(("loss", "norm", "scaled"), [(2.0, 1.0, False), (2.0, None, False), (2.0, math.inf, True)])
def test_finite_losses_pass(loss: float, norm: float | None, scaled: bool) -> None:
    check_finite(loss, norm, scaled=scaled, step=1)


@pytest.mark.parametrize(
    ("loss", "norm", "scaled"),
    [(math.nan, 1.0, False), (math.inf, 1.0, True), (2.0, math.nan, False), (2.0, -1.0, False)],
)
def test_what_is_not_finite_does_not(loss: float, norm: float, scaled: bool) -> None:
    with pytest.raises(NonFiniteLoss, match="step 7"):
        check_finite(loss, norm, scaled=scaled, step=7)


def test_the_watchdog_sleeps_while_steps_are_made() -> None:
    ends: list[HangDetected] = []
    with Watchdog(0.5, end=ends.append) as watchdog:
        for step in range(10):
            time.sleep(0.1)
            watchdog.beat(step)
    assert ends == []


STUCK = """
import ctypes, os, signal, threading
from lmforge_workloads.common.guards import StopSignal
if rank := os.fork():  # as the pod's main process does, after its imports have started threads of their own
    os._exit(os.waitstatus_to_exitcode(os.waitpid(rank, 0)[1]))
stop = StopSignal(end=lambda error: os._exit(75))
stop.install()
{more}
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
ctypes.CDLL(None).sleep({seconds})  # inside C, as when waiting for other ranks
os._exit(1 if stop.requested else 2)
"""


@pytest.mark.parametrize(
    ("more", "seconds", "code"),
    [("", 60, ExitCode.SUSPENDED), ("stop.defer()", 1, 1)],
    ids=["before training it ends at once", "later it is remembered"],
)
def test_sigterm_is_heard_even_by_a_rank_that_waits_inside_c(more: str, seconds: int, code: int) -> None:
    script = STUCK.format(more=more, seconds=seconds)
    assert subprocess.run([sys.executable, "-c", script], timeout=50, check=False).returncode == code


def an_ending(rank: int, code: int, reason: str = "", **fields: Any) -> Ending:
    return Ending(rank, code, ExitReport(reason=reason, rank=rank, **fields) if reason else None)


PEER_LOST = (ExitCode.PEER_LOST, "PeerLost")


@pytest.mark.parametrize(
    ("endings", "rank", "code", "reason"),
    [
        ([an_ending(0, 0, "Completed"), an_ending(1, 0, "Completed")], 0, 0, "Completed"),
        ([an_ending(1, 75, "Suspended"), an_ending(0, 75, "Suspended")], 0, 75, "Suspended"),
        ([an_ending(0, *PEER_LOST), an_ending(1, 68, "OutOfMemory")], 1, 68, "OutOfMemory"),
        ([an_ending(0, *PEER_LOST), an_ending(1, *PEER_LOST)], 0, 71, "PeerLost"),
        ([an_ending(0, *PEER_LOST), an_ending(1, 137)], 1, 137, "Killed"),
        ([an_ending(1, 1)], 1, 1, "InternalError"),
    ],
    ids=["all done", "suspended", "the cause, not the loss of a peer", "a peer of another pod", "killed", "no word"],
)
def test_a_pod_tells_the_cause(endings: list[Ending], rank: int, code: int, reason: str) -> None:
    ending = verdict(endings)
    assert ending.report is not None
    assert (ending.rank, ending.code, ending.report.reason) == (rank, code, reason)


def test_the_progress_of_rank_0_is_told_whoever_failed() -> None:
    progress = ProgressReport(attempt=1, step=9)
    ending = verdict([an_ending(1, 68, "OutOfMemory"), an_ending(0, *PEER_LOST, progress=progress)])
    assert ending.report is not None
    assert ending.report.progress == progress
