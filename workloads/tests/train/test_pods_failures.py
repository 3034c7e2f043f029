"""Pods that lack memory, room or sense, or hang: how they end, and what they say of it."""

import ctypes
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from pod_jobs import going_on_from, weights
from pods import Pod, pods, wait_for_step
from safetensors.torch import save_file

from lmforge_api.run import ExitCode, TrainingRun
from lmforge_api.trainingjob import ModelInit, ModelSource, Parallelism
from lmforge_workloads.common import checkpoints

pytestmark = pytest.mark.distributed


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


def assert_ends(run: TrainingRun, code: ExitCode, message: str, **options: Any) -> Pod:
    with pods(run, **options) as (pod,):
        assert pod.exit_code() == code, pod.log.read_text()[-3000:]
        assert message in pod.words().message
        return pod
