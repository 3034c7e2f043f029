"""A Redis server of the tests' own: Debian's, on a free port, keeping nothing on disk."""

import shutil
import socket
import subprocess
import time
from pathlib import Path

from engine_stub import unused_port

PROGRAM = "redis-server"


class RedisServer:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port = unused_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        """Returns when it answers."""
        program = shutil.which(PROGRAM)
        assert program, f"{PROGRAM} is missing: make servers, or apt-get install -y redis-server"
        options = ["--port", str(self._port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen([program, *options], cwd=self._directory, stdout=log, stderr=log)
        ends = time.monotonic() + 10
        while not self._answers():
            assert self._process.poll() is None, f"redis-server ended: {(self._directory / 'log').read_text()}"
            assert time.monotonic() < ends, "redis-server doesn't answer within 10 s"
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
