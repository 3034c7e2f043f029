"""Tell the operator how far the work is, about once a second, without ever holding the work up.

    with Reporter(run.progress, ProgressReport(attempt=run.attempt)) as reporter:
        reporter.update(stage="Training", step=step, loss=loss)
        if reporter.stop_requested: ...

A thread posts the latest values; between changes the same post is the heartbeat. Start it after forking.
"""

import http.client
import logging
import ssl
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from lmforge_api.run import ProgressReply, ProgressReport, ProgressTarget

log = logging.getLogger(__name__)

_SILENCE = 60.0  # seconds between two complaints about an endpoint that doesn't answer


class Reporter:
    """Posts a `ProgressReport`; without a target it only keeps it."""

    def __init__(
        self, target: ProgressTarget | None, first: ProgressReport, *, interval: float = 1.0, timeout: float = 5.0
    ) -> None:
        self.report = first
        self._target = target
        self._interval = interval
        self._timeout = timeout
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._closing = threading.Event()
        self._connection: http.client.HTTPConnection | None = None
        self._complained = -_SILENCE
        self._thread: threading.Thread | None = None

    @property
    def stop_requested(self) -> bool:
        """Whether the operator has asked for a checkpoint and an end."""
        return self._stop.is_set()

    def update(self, **values: object) -> None:
        """Change fields of the report (snake_case). Costs microseconds: nothing is validated or sent here."""
        with self._lock:  # a checkpoint's background thread updates it too
            self.report = self.report.model_copy(update=values)

    def start(self) -> Self:
        """Begin to post. Nothing happens without a target."""
        if self._target is not None:
            self._thread = threading.Thread(target=self._loop, name="progress", daemon=True)
            self._thread.start()
        return self

    def close(self) -> None:
        """Post the last values, waiting for them at most two timeouts, and stop."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(2 * self._timeout)
            self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _loop(self) -> None:
        last = False
        while not last:
            last = self._closing.wait(self._interval)
            self._post_quietly()
        self._disconnect()

    def _post_quietly(self) -> None:
        try:
            if self._post().stop:
                self._stop.set()
        except Exception as error:  # whatever goes wrong here must not end a training run
            self._disconnect()
            if time.monotonic() - self._complained >= _SILENCE:
                self._complained = time.monotonic()
                log.warning("progress can't be reported, training goes on: %s: %s", type(error).__name__, error)

    def _post(self) -> ProgressReply:
        assert self._target is not None
        token = Path(self._target.token_path).read_text().strip()  # read each time: the kubelet rotates it
        url = urlsplit(self._target.url)
        self._connection = self._connection or self._connect(url.scheme, url.hostname or "", url.port)
        self._connection.request(
            "POST",
            f"{url.path}?{url.query}" if url.query else url.path,
            body=self.report.model_dump_json(by_alias=True, exclude_none=True).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        response = self._connection.getresponse()
        body = response.read()
        if response.status >= 300:
            raise ConnectionError(f"{self._target.url} answered {response.status} {response.reason}")
        return ProgressReply.model_validate_json(body) if body else ProgressReply()

    def _connect(self, scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
        assert self._target is not None
        if scheme == "https":
            context = ssl.create_default_context(cafile=self._target.ca_path)
            return http.client.HTTPSConnection(host, port, timeout=self._timeout, context=context)
        return http.client.HTTPConnection(host, port, timeout=self._timeout)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
