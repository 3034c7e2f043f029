"""The program that keeps a pod until its engine is idle, run as it is against an engine that says what it counts."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from serving_builders import spec

from lmforge_operator.serving.engines.engine import Task
from lmforge_operator.serving.engines.llamacpp import LLAMACPP

PROGRAM = 2
"""Where it stands in the command; then come the URL, the seconds to begin with, those that are left, and the gauges."""


def counting(running: int, waiting: int = 0) -> str:
    """llama-server's metrics with so many requests."""
    return (
        "# TYPE llamacpp:requests_processing gauge\n"
        f"llamacpp:requests_processing {running}\n"
        f"llamacpp:requests_deferred {waiting}\n"
        "llamacpp:tokens_predicted_total 700\n"
    )


class Engine:
    """Says one text after the other, and the last one from then on. An empty text is an answer of 503."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)
        self.asked = 0

    def say(self) -> str:
        self.asked += 1
        return self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]


@contextmanager
def metrics(engine: Engine) -> Iterator[str]:
    """The URL of that engine's metrics."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = engine.say().encode()
            self.send_response(200 if text else 503)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *arguments: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/metrics"
        finally:
            server.shutdown()
            thread.join()


def drain(url: str, *, seconds: str = "60") -> None:
    """The program, without its wait for the router."""
    assert LLAMACPP.drain
    command = LLAMACPP.drain(Task("chat", "/models/tiny.gguf", spec()))
    gauges = command[PROGRAM + 4 :]
    subprocess.run([sys.executable, "-c", command[PROGRAM], url, "0", seconds, *gauges], check=True, timeout=60)


WAITS: dict[str, tuple[list[str], int]] = {
    "an idle engine is asked three times": ([counting(0)], 3),
    "a request that runs": ([counting(1), counting(1), counting(0)], 5),
    "a request that waits": ([counting(0, 1), counting(0)], 4),
    "a request that was just between two places": ([counting(0), counting(0), counting(1), counting(0)], 6),
    "an engine that is too busy to answer": ([counting(1), "", counting(0)], 5),
}


@pytest.mark.parametrize(("texts", "asked"), WAITS.values(), ids=WAITS)
def test_it_ends_when_no_request_is_left(texts: list[str], asked: int) -> None:
    engine = Engine(*texts)
    with metrics(engine) as url:
        drain(url)
    assert engine.asked == asked


@pytest.mark.parametrize("text", [counting(1), "something_else 0\n"], ids=["a request without end", "no such gauge"])
def test_it_ends_when_the_time_is_over(text: str) -> None:
    engine = Engine(text)
    with metrics(engine) as url:
        drain(url, seconds="0.5")
    assert engine.asked


def test_it_ends_when_the_engine_is_gone() -> None:
    with metrics(Engine(counting(1))) as url:
        gone = url
    drain(gone)
