import json
import logging

import pytest

from lmforge_workloads.common import logs


@pytest.fixture(autouse=True)
def _former_handlers_come_back() -> object:
    former = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:], logging.root.level = former


def test_json_logs_hold_rank_extras_and_exceptions_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(rank=3, plain=False)
    try:
        raise ValueError("日本")
    except ValueError:
        logging.getLogger("x").exception("it %s", "failed", extra={"step": 7})
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert (entry["message"], entry["rank"], entry["step"], entry["level"]) == ("it failed", 3, 7, "error")
    assert "ValueError: 日本" in entry["exception"]


def test_plain_logs_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(rank=1, plain=True)
    logging.getLogger("x").info("step 3")
    assert capsys.readouterr().err.endswith("[rank 1] step 3\n")
