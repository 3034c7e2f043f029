"""Background processes are recognised by more than their pid."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from e2e.cluster.errors import StartError
from e2e.cluster.process import Daemon, start_time
from e2e.cluster.shell import wait_for


def sleeper(folder: Path, *, script: str = "exec sleep 100") -> Daemon:
    return Daemon("sleeper", ["sh", "-c", script], folder, dies_with_parent=True)


def test_it_is_found_by_a_later_command_and_stopped(tmp_path: Path) -> None:
    sleeper(tmp_path).start()
    later = sleeper(tmp_path)
    assert later.running
    later.stop()
    assert not later.running


def test_starting_it_again_leaves_the_running_one_alone(tmp_path: Path) -> None:
    daemon = sleeper(tmp_path)
    daemon.start()
    pid = daemon.pid
    sleeper(tmp_path).start()
    assert daemon.pid == pid
    daemon.kill()


def test_a_stranger_with_the_same_pid_is_never_signalled(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "100"])
    (tmp_path / "sleeper.pid").write_text(f"{stranger.pid} {(start_time(stranger.pid) or 0) - 1}")
    daemon = sleeper(tmp_path)
    assert not daemon.running
    daemon.stop()
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_one_that_ignores_the_signal_is_killed_when_its_time_is_over(tmp_path: Path) -> None:
    daemon = sleeper(tmp_path, script="trap '' TERM; while true; do sleep 0.1; done")
    daemon.start()
    daemon.stop(grace=0.3)
    assert not daemon.running


ONLY_THE_FIRST_THREAD_ENDS = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(100,)).start()
ctypes.CDLL(None).syscall(60, 0)  # exit, of this thread alone
"""


def test_it_is_not_gone_while_a_thread_of_it_still_holds_its_sockets(tmp_path: Path) -> None:
    daemon = Daemon("threads", [sys.executable, "-c", ONLY_THE_FIRST_THREAD_ENDS], tmp_path, dies_with_parent=True)
    daemon.start()
    state = Path(f"/proc/{daemon.pid}/stat")
    wait_for(lambda: ") Z " in state.read_text(), what="the end of its first thread", seconds=10)
    assert daemon.running
    daemon.kill()
    assert not daemon.running


def test_the_end_of_the_log_says_why_it_ended(tmp_path: Path) -> None:
    daemon = sleeper(tmp_path, script="echo the port is taken; exit 1")
    daemon.start()
    wait_for(lambda: not daemon.running, what="its end", seconds=10)
    with pytest.raises(StartError, match="the port is taken"):
        daemon.require_running()
