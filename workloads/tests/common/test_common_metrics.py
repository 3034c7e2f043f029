import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmforge_workloads.common import metrics
from lmforge_workloads.common.metrics import MetricsLog, Throughput
from lmforge_workloads.common.report import chart, report


def attempt(root: Path, number: int, *, first: int, last: int) -> None:
    """Steps first + 1 to last; the loss says which attempt measured it."""
    with MetricsLog(root, attempt=number, start_step=first) as log:
        for step in range(first + 1, last + 1):
            log.write(step, loss=number + step / 100, evaluation_loss=5.0 if step % 2 == 0 else None)


def board(directory: Path) -> list[tuple[str, int, float]]:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    return [
        (value.tag, event.step, round(value.tensor.float_val[0], 4))
        for path in directory.glob("events.*")
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
    ]


def test_steps_that_were_done_again_after_a_resume_count_once(tmp_path: Path) -> None:
    attempt(tmp_path, 1, first=0, last=7)
    attempt(tmp_path, 2, first=4, last=6)
    attempt(tmp_path, 3, first=4, last=9)
    records = metrics.history(tmp_path)
    assert [record["step"] for record in records] == list(range(1, 10))
    assert [int(record["loss"]) for record in records] == [1] * 4 + [3] * 5


def test_a_line_cut_by_a_kill_is_left_out(tmp_path: Path) -> None:
    attempt(tmp_path, 1, first=0, last=3)
    with (tmp_path / "attempts/0001/metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    assert [record["step"] for record in metrics.history(tmp_path)] == [1, 2, 3]


def test_every_line_is_there_at_once(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, attempt=1, start_step=0)
    log.write(1, loss=2.0, gradient_norm=None)
    line = json.loads((tmp_path / "attempts/0001/metrics.jsonl").read_text().splitlines()[1])
    assert line.keys() == {"step", "time", "loss"}
    log.close()


def test_tensorboard_shows_the_same(tmp_path: Path) -> None:
    attempt(tmp_path, 1, first=0, last=2)
    expected = [("train/loss", 1, 1.01), ("train/loss", 2, 1.02), ("evaluation/loss", 2, 5.0)]
    assert board(tmp_path / "attempts/0001/tensorboard") == expected
    metrics.write_history(metrics.history(tmp_path), tmp_path / "all")
    assert board(tmp_path / "all/tensorboard") == expected
    assert len((tmp_path / "all/metrics.jsonl").read_text().splitlines()) == 2


def test_throughput_is_that_of_the_last_steps() -> None:
    times = iter([0.0, *(10.0 + n for n in range(40))])
    throughput = Throughput(clock=lambda: next(times))
    assert throughput.eta(5) is None
    assert throughput.step(100) == pytest.approx(10)
    for _ in range(30):
        latest = throughput.step(100)
    assert latest == pytest.approx(100)
    assert throughput.eta(5) == pytest.approx(5)


RECORDS = [
    {"step": n, "time": n, "loss": 10 / (n + 1), "learning_rate": 1e-3, "evaluation_loss": 3.0} for n in range(9)
]


def test_a_report_is_one_page_that_needs_nothing_else() -> None:
    page = report("ns/<name>", facts={"loss": "3 < 4"}, records=RECORDS)
    ElementTree.fromstring(page.removeprefix("<!doctype html>").replace('<meta charset="utf-8">', ""))
    assert "ns/&lt;name&gt;" in page
    assert "3 &lt; 4" in page
    assert page.count("<svg") == 2
    assert "http" not in page
    assert "evaluation" in page


@given(st.lists(st.tuples(st.integers(0, 10**8), st.floats(width=32)), max_size=30))
def test_any_measurements_can_be_drawn(points: list[tuple[float, float]]) -> None:
    drawing = chart({"a": points})
    ElementTree.fromstring(drawing)
    assert "nan" not in drawing
    assert "inf" not in drawing.replace("Nothing finite", "")
