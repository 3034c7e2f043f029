"""An object's status, each time it changes: one `kubectl get --watch` costs two busy cores less than asking again."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import Any, Self

Manifest = dict[str, Any]


class Watch:
    """Iterates over the statuses that an object takes on, newest last; ends after so many seconds."""

    def __init__(self, command: Sequence[str], *, seconds: float) -> None:
        self._command = [*command, "--watch", "-o", 'jsonpath={.status}{"\\n"}']
        self._deadline = time.monotonic() + seconds
        self._kubectl = self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def __iter__(self) -> Iterator[Manifest]:
        while (line := self._line()) is not None:
            yield dict(json.loads(line or b"{}"))

    def _line(self) -> bytes | None:
        """The next line; the watch is opened again when the API server ends it, or isn't there."""
        assert self._kubectl.stdout
        while (left := self._deadline - time.monotonic()) > 0:
            if not select.select([self._kubectl.stdout], [], [], left)[0]:
                return None
            line = self._kubectl.stdout.readline()
            if line.endswith(b"\n"):  # else kubectl ended in the middle of it
                return line.strip()
            self._stop()
            time.sleep(min(0.5, max(0.0, left)))
            self._kubectl = self._start()
        return None

    def _start(self) -> subprocess.Popen[bytes]:
        # Unbuffered: select() looks at the pipe, not at what Python has already read from it.
        return subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0, env=dict(os.environ)
        )

    def _stop(self) -> None:
        self._kubectl.kill()
        self._kubectl.wait()
        if self._kubectl.stdout:
            self._kubectl.stdout.close()
