"""Pods that are asked to stop: by a signal, or by the operator's reply."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pod_jobs import a_job, assert_same_result, next_attempt
from pods import copy_tokens, finish, pods, wait_for_step

from lmforge_api.run import ExitCode, ProgressTarget, TrainingRun
from lmforge_workloads.common import checkpoints

pytestmark = pytest.mark.distributed


def test_sigterm_saves_and_suspends(job: TrainingRun, uninterrupted: TrainingRun) -> None:
    with pods(job) as (pod,):
        wait_for_step(job, 5)
        pod.process.terminate()
        assert pod.exit_code() == ExitCode.SUSPENDED
        words = pod.words()
    assert words.reason == "Suspended"
    assert words.progress is not None
    assert words.progress.checkpoint is not None
    assert checkpoints.complete_steps(Path(job.store.root))[0] == words.step == words.progress.checkpoint.step
    finish(next_attempt(job))
    assert_same_result(job, uninterrupted)


def test_sigterm_at_any_moment_of_the_start_is_heard(job: TrainingRun) -> None:
    long = job.model_copy(update={"spec": job.spec.model_copy(update={"steps": 10_000})})
    for delay in (0.0, 0.05, 0.2, 0.5):
        with pods(long) as (pod,):
            time.sleep(delay)
            pod.process.terminate()
            assert pod.exit_code() in (ExitCode.SUSPENDED, ExitCode.TERMINATED), pod.log.read_text()
    assert not (Path(job.store.root) / "artifact").exists()


def test_the_operators_reply_suspends_too(job: TrainingRun) -> None:
    with operator_that_stops_at(3) as url:
        token = Path(job.store.root) / "token"
        token.write_text("secret")
        target = ProgressTarget(url=url, token_path=str(token))
        long = job.spec.model_copy(update={"steps": 10_000})
        with pods(job.model_copy(update={"progress": target, "spec": long})) as (pod,):
            assert pod.exit_code() == ExitCode.SUSPENDED
            assert checkpoints.complete_steps(Path(job.store.root))[0] == pod.words().step


@contextlib.contextmanager
def operator_that_stops_at(step: int) -> Iterator[str]:
    """Answers progress posts, and asks for a stop once a report says this step."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            report = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps({"stop": report["step"] >= step}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/progress"
        server.shutdown()


def test_when_one_pod_is_stopped_all_stop_at_the_same_step(tmp_path: Path, text: Path, tokens: Path) -> None:
    run = copy_tokens(a_job(tmp_path / "run", text, nodes=2), tokens)
    with pods(run) as (first, second):
        wait_for_step(run, 2)
        second.process.terminate()
        assert [first.exit_code(), second.exit_code()] == [ExitCode.SUSPENDED] * 2
        assert first.words().step == second.words().step == checkpoints.complete_steps(Path(run.store.root))[0]
