"""Background processes that outlive the command which started them, and are recognised safely later.

A pid alone is not proof: after a crash or a reboot it may belong to a stranger. Each process is therefore
remembered by its pid *and* its start time, and nothing else is ever signalled.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from e2e.cluster.errors import StartError

LOG_TAIL_LINES = 25


@dataclass
class Daemon:
    """One background process with a log and a pid file, both named after it in ``folder``."""

    name: str
    argv: Sequence[str]
    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)
    dies_with_parent: bool = False
    _child: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def pid_file(self) -> Path:
        return self.folder / f"{self.name}.pid"

    @property
    def pid(self) -> int | None:
        """The pid while the process that we started is alive, else None."""
        try:
            pid, started = (int(word) for word in self.pid_file.read_text().split())
        except (FileNotFoundError, ValueError):
            return None
        if self._child is not None:
            self._child.poll()  # reaps it, so that a dead child isn't mistaken for a live one
        return pid if start_time(pid) == started else None

    @property
    def running(self) -> bool:
        return self.pid is not None

    def start(self) -> None:
        if self.running:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        argv = [*(("setpriv", "--pdeathsig", "KILL") if self.dies_with_parent else ()), *self.argv]
        with self.log.open("wb") as log:
            self._child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **self.env},
            )
        pid = self._child.pid
        self.pid_file.write_text(f"{pid} {start_time(pid)}\n")

    def require_running(self) -> None:
        """Raises StartError with the end of the log when the process has ended."""
        if not self.running:
            raise StartError(f"{self.name} ended unexpectedly; the end of {self.log}:\n{self.log_tail()}")

    def stop(self, *, grace: float = 10.0) -> None:
        """Asks it to end, and makes it end when ``grace`` seconds are over."""
        self._signal(signal.SIGTERM)
        if not self._gone_within(grace):
            self.kill()
        self.pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """Ends it at once, as a crash would: nothing is cleaned up."""
        self._signal(signal.SIGKILL)
        self._gone_within(10.0)

    def log_tail(self, *, lines: int = LOG_TAIL_LINES) -> str:
        if not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _signal(self, number: signal.Signals) -> None:
        pid = self.pid
        if pid is not None:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return

    def _gone_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.running:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


def start_time(pid: int) -> int | None:
    """Clock ticks from boot to the start of ``pid`` (proc(5), field 22), None when it's gone or a zombie.

    A killed process is a zombie as soon as its first thread is; until its other threads have ended too it still holds
    its sockets.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        threads = len(os.listdir(f"/proc/{pid}/task"))
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold blanks and brackets
    return None if fields[0] in "ZX" and threads <= 1 else int(fields[19])
