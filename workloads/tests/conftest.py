"""Real text for tests: the sources of Python's standard library, which every machine that runs these tests has."""

import sysconfig
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("fast", max_examples=30, deadline=None)
settings.load_profile("fast")


@pytest.fixture(scope="session")
def real_files() -> list[Path]:
    """About 1 MB of Python, in files of a few to 100 KB."""
    found, size = [], 0
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("[a-m]*.py")):
        if size < 1_000_000 and path.stat().st_size > 2000:
            found.append(path)
            size += path.stat().st_size
    return found


@pytest.fixture(scope="session")
def corpus(real_files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """These files in a directory of their own."""
    directory = tmp_path_factory.mktemp("corpus")
    for path in real_files:
        (directory / path.with_suffix(".txt").name).write_bytes(path.read_bytes())
    return directory
