"""Real text and its tokens, a run to begin, and one that was left alone to its end."""

from pathlib import Path

import pytest
from pod_jobs import a_job
from pods import copy_tokens, finish

from lmforge_api.run import TrainingRun
from lmforge_workloads.train import data


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
