"""Pods that are killed, stopped, starved and fed with rubbish: what is left, and what they say of it."""

import contextlib
import ctypes
import json
import resource
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from pods import Pod, copy_tokens, finish, losses, pods, wait_for_checkpoint, wait_for_step
from safetensors.torch import load_file, save_file
from workload_builders import a_run, a_spec

from lmforge_api.run import ExitCode, ProgressTarget, TrainingRun
from lmforge_api.trainingjob import (
    Batch,
    Checkpointing,
    DatasetSource,
    Evaluation,
    ModelInit,
    ModelSource,
    Optimizer,
    Parallelism,
    TokenizerSource,
    TokenizerTraining,
)
from lmforge_workloads.common import checkpoints
from lmforge_workloads.train import data

pytestmark = pytest.mark.distributed

STEPS = 24


def a_job(root: Path, text: Path, *, nodes: int = 1, attempt: int = 1, **fields: Any) -> TrainingRun:
    """A Llama on two data-parallel ranks, with a checkpoint every four steps."""
    parallelism = fields.pop("parallelism", Parallelism(data=2))
    world = parallelism.data * parallelism.tensor * parallelism.pipeline
    tokenizer = TokenizerSource(train=TokenizerTraining(vocab_size=300))
    spec = a_spec(**{
        "dataset": DatasetSource(uri="file:///text", tokenizer=tokenizer),
        "sequence_length": 32,
        "steps": STEPS,
        "parallelism": parallelism,
        "batch": Batch(global_=8),
        "optimizer": Optimizer(learning_rate=1e-2),
        "checkpoint": Checkpointing(every_steps=4),
        "evaluation": Evaluation(every_steps=12, samples=8, holdout=0.2),
    } | fields)  # fmt: skip
    return a_run(
        root, dataset=text, spec=spec, nodes=nodes, processes_per_node=world // nodes,
        data_parallel=parallelism.data, attempt=attempt,
    )  # fmt: skip


def next_attempt(run: TrainingRun) -> TrainingRun:
    return run.model_copy(update={"attempt": run.attempt + 1})


@pytest.fixture(scope="session")
def text(real_files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 KB of real text in 30 files."""
    directory = tmp_path_factory.mktemp("text")
    for path in real_files[:30]:
        (directory / path.with_suffix(".txt").name).write_bytes(path.read_bytes()[:2000])
    return directory


@pytest.fixture(scope="session")
def tokens(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tokens")
    data.prepare(a_job(root, text))
    return root / "data"


@pytest.fixture
def job(tmp_path: Path, text: Path, tokens: Path) -> TrainingRun:
    return copy_tokens(a_job(tmp_path / "run", text), tokens)


@pytest.fixture(scope="session")
def uninterrupted(text: Path, tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingRun:
    run = copy_tokens(a_job(tmp_path_factory.mktemp("uninterrupted") / "run", text), tokens)
    finish(run)
    return run


def weights(run: TrainingRun) -> dict[str, torch.Tensor]:
    return load_file(Path(run.store.root) / "artifact" / "model.safetensors")


def assert_same_result(run: TrainingRun, other: TrainingRun) -> None:
    """Bit for bit."""
    assert losses(run) == losses(other)
    ours, theirs = weights(run), weights(other)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours.keys() | theirs.keys())


def test_a_run_leaves_an_artifact_and_says_so(uninterrupted: TrainingRun) -> None:
    root = Path(uninterrupted.store.root)
    assert list(losses(uninterrupted)) == list(range(1, STEPS + 1))
    assert checkpoints.complete_steps(root) == [24, 20]
    words = json.loads((root / "attempt-1-pod-0.words").read_text())
    assert words["reason"] == "Completed"
    assert words["progress"]["evaluation"]["step"] == STEPS
    assert words["progress"]["artifact"]["format"] == "HuggingFace"
    assert not list(root.rglob(".*")), "nothing half done is left"


def test_a_killed_pod_goes_on_as_if_nothing_had_happened(job: TrainingRun, uninterrupted: TrainingRun) -> None:
    with pods(job) as (pod,):
        wait_for_checkpoint(job)
        pod.kill()
    (pod,) = finish(next_attempt(job))
    assert_same_result(job, uninterrupted)
    progress = pod.words().progress
    assert progress is not None
    assert 4 <= progress.start_step < STEPS


def test_a_killed_rank_ends_its_pod_at_once(job: TrainingRun) -> None:
    with pods(job) as (pod,):
        wait_for_step(job, 5)
        pod.ranks()[1].send_signal(signal.SIGKILL)
        assert pod.exit_code(timeout=5) == ExitCode.KILLED
        assert "rank 1 was ended by SIGKILL" in pod.words().message
        assert pod.words().progress.step >= 5  # type: ignore[union-attr]


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
    for delay in (0.0, 0.05, 0.2, 0.5):
        with pods(job) as (pod,):
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


def test_a_smaller_attempt_takes_over(job: TrainingRun, uninterrupted: TrainingRun) -> None:
    with pods(job) as (pod,):
        wait_for_checkpoint(job)
        pod.kill()
    finish(next_attempt(job).model_copy(update={"processes_per_node": 1, "data_parallel": 1}))
    assert list(losses(job).values()) == pytest.approx(list(losses(uninterrupted).values()), rel=1e-5)


def test_dropout_is_the_same_after_a_kill(job: TrainingRun, tmp_path: Path, text: Path, tokens: Path) -> None:
    dropped = ModelInit(architecture="gpt2", layers=2, hidden_size=32, heads=4, dropout=0.2)
    spec = job.spec.model_copy(update={"model": ModelSource(init=dropped)})
    killed = job.model_copy(update={"spec": spec})
    whole = copy_tokens(a_job(tmp_path / "whole", text), tokens).model_copy(update={"spec": spec})
    with pods(killed) as (pod,):
        wait_for_checkpoint(killed)
        pod.kill()
    finish(next_attempt(killed))
    finish(whole)
    assert_same_result(killed, whole)


def test_when_one_pod_is_stopped_all_stop_at_the_same_step(tmp_path: Path, text: Path, tokens: Path) -> None:
    run = copy_tokens(a_job(tmp_path / "run", text, nodes=2), tokens)
    with pods(run) as (first, second):
        wait_for_step(run, 2)
        second.process.terminate()
        assert [first.exit_code(), second.exit_code()] == [ExitCode.SUSPENDED] * 2
        assert first.words().step == second.words().step == checkpoints.complete_steps(Path(run.store.root))[0]


def test_the_loss_of_a_pod_ends_the_others_quickly(tmp_path: Path, text: Path, tokens: Path) -> None:
    run = copy_tokens(a_job(tmp_path / "run", text, nodes=2), tokens)
    with pods(run) as (first, second):
        wait_for_step(run, 2)
        second.kill()
        assert first.exit_code(timeout=10) == ExitCode.PEER_LOST
        assert first.words().reason == "PeerLost"


def test_a_hang_dumps_the_stacks_of_all_ranks(job: TrainingRun) -> None:
    policy = job.spec.failure_policy.model_copy(update={"hang_timeout_seconds": 2})
    spec = job.spec.model_copy(update={"failure_policy": policy, "steps": 10_000})
    with pods(job.model_copy(update={"spec": spec})) as (pod,):
        wait_for_step(job, 2)
        pod.ranks()[1].send_signal(signal.SIGSTOP)
        assert pod.exit_code() == ExitCode.HANG
        assert "no step was finished within 2 s" in pod.words().message
        log = pod.log.read_text()
        assert "stacks of rank 0" in log
        assert "in train_step" in log


def test_a_loss_that_is_no_number_ends_the_run(job: TrainingRun, uninterrupted: TrainingRun, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(Path(uninterrupted.store.root) / "artifact", model)
    poisoned = weights(uninterrupted)
    poisoned["model.norm.weight"][3] = float("nan")
    save_file(poisoned, model / "model.safetensors")
    assert_ends(going_on_from(job, model), ExitCode.NON_FINITE_LOSS, "the loss of step 1 is nan")


def test_training_goes_on_from_a_hugging_face_directory(job: TrainingRun, uninterrupted: TrainingRun) -> None:
    run = going_on_from(job, Path(uninterrupted.store.root) / "artifact")
    finish(run)
    assert losses(run)[1] < losses(uninterrupted)[1] - 0.3


def going_on_from(job: TrainingRun, model: Path) -> TrainingRun:
    """The same text by the model's own tokenizer."""
    spec = job.spec.model_copy(update={"model": ModelSource(uri="pvc://models/one")})
    return job.model_copy(update={"spec": spec, "model_path": str(model)})


def test_an_unreadable_line_is_named(job: TrainingRun, tmp_path: Path) -> None:
    lines = ['{"text": "one"}', '{"text": "two"}', '{"text": "thr', '{"text": "four"}']
    (tmp_path / "bad.jsonl").write_text("\n".join(lines))
    run = job.model_copy(update={"dataset_path": str(tmp_path / "bad.jsonl")})
    assert_ends(run, ExitCode.DATA_ERROR, "bad.jsonl:3")


def test_a_layout_that_does_not_fit_the_model_is_the_users_error(job: TrainingRun) -> None:
    spec = job.spec.model_copy(update={"model": ModelSource(init=ModelInit(layers=2, hidden_size=30, heads=3)),
                                       "parallelism": Parallelism(tensor=2)})  # fmt: skip
    run = job.model_copy(update={"spec": spec, "data_parallel": 1})
    assert_ends(run, ExitCode.USER_ERROR, "tensor 2 does not divide heads 3")


def test_too_large_a_model_is_out_of_memory(job: TrainingRun) -> None:
    large = ModelInit(layers=2, hidden_size=16384, heads=16)
    spec = job.spec.model_copy(update={"model": ModelSource(init=large)})
    assert_ends(job.model_copy(update={"spec": spec}), ExitCode.OUT_OF_MEMORY, "memory", before=limit_memory)


def limit_memory() -> None:
    """What a process may still take: 1 GB more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 10**9
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def assert_ends(run: TrainingRun, code: ExitCode, message: str, **options: Any) -> Pod:
    with pods(run, **options) as (pod,):
        assert pod.exit_code() == code, pod.log.read_text()[-3000:]
        assert message in pod.words().message
        return pod


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(job: TrainingRun, uninterrupted: TrainingRun) -> None:
    root = Path(job.store.root)
    shutil.copytree(Path(uninterrupted.store.root), root, dirs_exist_ok=True)
    shutil.rmtree(root / "artifact")
    shard = checkpoints.directory_of(root, STEPS) / "rank-00001.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    (pod,) = finish(next_attempt(job))
    progress = pod.words().progress
    assert progress is not None
    assert progress.start_step == STEPS - 4
    assert f"step {STEPS} is damaged" in progress.message
    assert f"went on from step {STEPS - 4}" in progress.message
    assert_same_result(job, uninterrupted)


def test_a_full_store_leaves_no_half_checkpoint(job: TrainingRun) -> None:
    root = Path(job.store.root)
    pod = assert_ends(job, ExitCode.STORE_FULL, "no space is left", before=SmallStore(root))
    assert pod.words().reason == "StoreFull"
    assert not checkpoints.complete_steps(root)


class SmallStore:
    """A function that other processes can call: mounts a store of 100 KB for checkpoints, for that process alone."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        target = self.root / "checkpoints"
        target.mkdir(parents=True)
        private, none = 0x40000 | 0x4000, None
        assert libc.unshare(0x20000) == 0, "needs root"
        assert libc.mount(none, b"/", none, private, none) == 0
        assert libc.mount(b"tmpfs", str(target).encode(), b"tmpfs", 0, b"size=100k") == 0


def test_eight_ranks_in_two_pods_train_and_export(tmp_path: Path, text: Path, tokens: Path,
                                                  uninterrupted: TrainingRun) -> None:  # fmt: skip
    parallelism = Parallelism(data=2, tensor=2, pipeline=2)
    run = copy_tokens(a_job(tmp_path / "run", text, nodes=2, parallelism=parallelism), tokens)
    finish(run)
    assert list(losses(run).values()) == pytest.approx(list(losses(uninterrupted).values()), rel=1e-5)
    ours, theirs = weights(run), weights(uninterrupted)
    for name in ours.keys() | theirs.keys():
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-4)


def test_an_attempt_after_the_last_has_nothing_to_do(uninterrupted: TrainingRun) -> None:
    started = time.monotonic()
    finish(next_attempt(uninterrupted))
    assert time.monotonic() - started < 10
    assert checkpoints.complete_steps(Path(uninterrupted.store.root)) == [24, 20]
