import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lmforge_api.run import ProgressReport, ProgressTarget
from lmforge_workloads.common.progress import Reporter


class Operator(BaseHTTPRequestHandler):
    """The other end: keeps what it is told, and answers with `reply`."""

    protocol_version = "HTTP/1.1"
    heard: list[tuple[str, dict[str, object]]]
    reply: bytes
    status: int
    delay: float
    url: str

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.heard.append((self.headers["Authorization"], body))
        time.sleep(self.delay)
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.reply)))
        self.end_headers()
        self.wfile.write(self.reply)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def operator(*, reply: bytes = b'{"stop": false}', status: int = 200, delay: float = 0.0) -> Iterator[type[Operator]]:
    handler = type("Handler", (Operator,), {"heard": [], "reply": reply, "status": status, "delay": delay})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.url = f"http://127.0.0.1:{server.server_port}/v1/progress"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield handler
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def reporter(tmp_path: Path) -> Callable[[str], Reporter]:
    (tmp_path / "token").write_text("secret\n")

    def make(url: str) -> Reporter:
        target = ProgressTarget(url=url, token_path=str(tmp_path / "token"))
        return Reporter(target, ProgressReport(attempt=2), interval=0.02, timeout=0.5)

    return make


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_latest_values_are_posted_with_the_token(reporter: Callable[[str], Reporter]) -> None:
    with operator() as handler:
        with reporter(handler.url) as progress:
            progress.update(stage="Training", step=1, loss=3.5)
            eventually(lambda: any(body.get("step") == 1 for _, body in handler.heard))
            progress.update(step=9)
        token, body = handler.heard[-1]
    assert token == "Bearer secret"
    assert body["step"] == 9
    assert body["loss"] == 3.5
    assert body["attempt"] == 2


def test_a_heartbeat_comes_even_when_nothing_changes(reporter: Callable[[str], Reporter]) -> None:
    with operator() as handler, reporter(handler.url):
        eventually(lambda: len(handler.heard) >= 3)


def test_a_request_to_stop_is_remembered(reporter: Callable[[str], Reporter]) -> None:
    with operator(reply=b'{"stop": true}') as handler, reporter(handler.url) as progress:
        eventually(lambda: progress.stop_requested)
        handler.reply = b'{"stop": false}'
        heard = len(handler.heard)
        eventually(lambda: len(handler.heard) > heard + 2)
        assert progress.stop_requested


@pytest.mark.parametrize("trouble", [{"status": 500}, {"reply": b"not json"}, {"delay": 3.0}], ids=str)
def test_an_operator_in_trouble_neither_stops_nor_slows_the_work(
    reporter: Callable[[str], Reporter], trouble: dict[str, object]
) -> None:
    with operator(**trouble) as handler:
        progress = reporter(handler.url).start()
        began = time.monotonic()
        for step in range(1000):
            progress.update(step=step)
        assert time.monotonic() - began < 0.5
        eventually(lambda: bool(handler.heard))
        assert not progress.stop_requested
        progress.close()
        assert time.monotonic() - began < 3


def test_an_absent_operator_is_found_again_when_it_is_back(reporter: Callable[[str], Reporter]) -> None:
    with operator(status=503) as handler, reporter(handler.url):
        eventually(lambda: bool(handler.heard))
        handler.status = 200
        heard = len(handler.heard)
        eventually(lambda: len(handler.heard) > heard)


def test_without_a_target_nothing_is_posted_and_values_are_kept() -> None:
    with Reporter(None, ProgressReport(attempt=1)) as progress:
        progress.update(step=3)
    assert progress.report.step == 3
