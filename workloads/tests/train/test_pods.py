"""Pods that run to their end, and pods that are killed: what is left, and how it goes on."""

import json
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from pod_jobs import STEPS, a_job, assert_same_result, going_on_from, next_attempt, weights
from pods import copy_tokens, finish, losses, pods, wait_for_checkpoint, wait_for_step

from lmforge_api.run import ExitCode, TrainingRun
from lmforge_api.trainingjob import ModelInit, ModelSource, Parallelism
from lmforge_workloads.common import checkpoints

pytestmark = pytest.mark.distributed


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


def test_the_loss_of_a_pod_ends_the_others_quickly(tmp_path: Path, text: Path, tokens: Path) -> None:
    run = copy_tokens(a_job(tmp_path / "run", text, nodes=2), tokens)
    with pods(run) as (first, second):
        wait_for_step(run, 2)
        second.kill()
        assert first.exit_code(timeout=10) == ExitCode.PEER_LOST
        assert first.words().reason == "PeerLost"


def test_training_goes_on_from_a_hugging_face_directory(job: TrainingRun, uninterrupted: TrainingRun) -> None:
    run = going_on_from(job, Path(uninterrupted.store.root) / "artifact")
    finish(run)
    assert losses(run)[1] < losses(uninterrupted)[1] - 0.3


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
