"""Sets what libraries read when they are imported, before any test imports them; and what several tests start from."""
# ruff: noqa: E402

from lmforge_workloads.finetune import startup

startup.prepare(cuda=False, offline=False)

import math
from pathlib import Path

import pytest
from tuning import a_config, a_run, finish, questions, save_model, save_rows

from lmforge_api.run import FineTuneRun

SIZE = a_config(hidden_size=64, intermediate_size=128)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"), config=SIZE)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", questions())


@pytest.fixture(scope="module")
def tuned(model: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> FineTuneRun:
    """A LoRA run of ten steps with dropout, and a checkpoint in the middle."""
    run = a_run(tmp_path_factory.mktemp("tuned"), model=model, rows=rows, lora={"rank": 4, "dropout": 0.1})
    report = finish(run)
    assert report.fine_tune is not None
    assert report.fine_tune.evaluation_before is not None
    assert report.evaluation is not None
    assert report.evaluation.step == report.step == report.steps == 10
    assert report.evaluation.loss < report.fine_tune.evaluation_before.loss - 0.1
    assert report.evaluation.perplexity == pytest.approx(math.exp(report.evaluation.loss))
    return run
