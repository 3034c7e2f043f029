"""Runs that were interrupted: how the next attempt goes on."""

import os
import signal
from pathlib import Path

import torch
from safetensors.torch import load_file
from tuning import a_run, artifact_of, copy, elsewhere, finish, losses, pods, wait_for

from lmforge_api.run import ExitCode, FineTuneRun
from lmforge_workloads.common import checkpoints


def test_resuming_is_bit_for_bit_the_uninterrupted_run(tuned: FineTuneRun, tmp_path: Path) -> None:
    copy(tuned, tmp_path / "run", without=("artifact", "adapter", "checkpoints/step-00000010"))
    again = elsewhere(tuned, tmp_path / "run")
    report = finish(again)
    assert report.start_step == 5
    assert losses(again) == losses(tuned)
    found = load_file(tmp_path / "run/adapter/adapter_model.safetensors")
    for name, value in load_file(Path(tuned.store.root) / "adapter/adapter_model.safetensors").items():
        assert torch.equal(value, found[name]), name


def test_what_is_exported_already_is_told_again(tuned: FineTuneRun) -> None:
    report = finish(tuned.model_copy(update={"attempt": 3}))
    assert report.artifact is not None
    assert report.artifact.format == "HuggingFace"
    assert report.fine_tune is not None
    assert report.fine_tune.adapter is not None
    assert report.fine_tune.adapter.rank == 4


def test_a_damaged_checkpoint_is_passed_over(tuned: FineTuneRun, tmp_path: Path) -> None:
    copy(tuned, tmp_path / "run", without=("artifact", "adapter"))
    (tmp_path / "run/checkpoints/step-00000010/optimizer.pt").write_bytes(b"rubbish")
    again = elsewhere(tuned, tmp_path / "run")
    report = finish(again)
    assert report.start_step == 5
    assert "the checkpoint of step 10 is damaged (optimizer.pt is damaged): went on from step 5" in report.message


def test_suspending_saves_and_the_next_attempt_goes_on(model: Path, rows: Path, tmp_path: Path) -> None:
    run = a_run(tmp_path, model=model, rows=rows, steps=400, checkpoint={"everySteps": 400})
    with pods(run) as (pod,):
        wait_for(lambda: len(losses(run)) >= 3, "three steps")
        os.kill(pod.process, signal.SIGTERM)
        assert pod.exit_code() == ExitCode.SUSPENDED
        step = pod.words().step
    assert checkpoints.complete_steps(tmp_path) == [step]
    assert not artifact_of(run).exists()
    second = run.model_copy(update={"attempt": 2})
    with pods(second) as (pod,):
        wait_for(lambda: len(losses(run)) > step, "another step")
        pod.kill()
    assert checkpoints.complete_steps(tmp_path) == [step]
