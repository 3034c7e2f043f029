"""Small helpers to run other programs, to wait, and to show what is being done."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from e2e.cluster.errors import CommandFailed, StartError

SHOWN_LINES = 30
_began = time.monotonic()


def run(
    *argv: str | Path,
    stdin: str | None = None,
    check: bool = True,
    timeout: float | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Runs a program and returns what it wrote to its standard output; CommandFailed when it fails."""
    command = [str(word) for word in argv]
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=timeout, env=env, cwd=cwd, check=False
    )
    if check and done.returncode != 0:
        end = "\n".join((done.stderr or done.stdout).splitlines()[-SHOWN_LINES:])
        raise CommandFailed(f"`{' '.join(command)}` returned {done.returncode}:\n{end}")
    return done.stdout


def succeeds(*argv: str | Path, timeout: float | None = None) -> bool:
    command = [str(word) for word in argv]
    return subprocess.run(command, capture_output=True, timeout=timeout, check=False).returncode == 0


def wait_for(
    ready: Callable[[], bool],
    *,
    what: str,
    seconds: float,
    details: Callable[[], str] = lambda: "",
    interval: float = 0.1,
) -> None:
    """Polls ``ready``; when ``seconds`` are over, StartError says ``what`` was awaited and the ``details``."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise StartError(f"{what}: not there after {seconds:.0f} s\n{details()}".rstrip())
        time.sleep(interval)


def say(message: str) -> None:
    """One line of progress, with the seconds since the program began."""
    print(f"[{time.monotonic() - _began:6.1f}s] {message}", file=sys.stderr, flush=True)


@contextmanager
def step(message: str) -> Iterator[None]:
    """Says what is being done, how long it took when that was noticeable, and at once when it failed."""
    say(message)
    began = time.monotonic()
    try:
        yield
    except BaseException:
        say(f"  {message}: failed after {time.monotonic() - began:.1f} s")
        raise
    took = time.monotonic() - began
    if took > 1.0:
        say(f"  {message}: {took:.1f} s")


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """One command at a time: `up`, `images` and test sessions may run side by side."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
