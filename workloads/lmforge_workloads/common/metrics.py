"""What was measured at each step: JSON lines, which are the record, and TensorBoard files for looking at it live.

    attempts/0001/metrics.jsonl      {"attempt": 1, "start_step": 0}, then {"step": 1, "time": …, "loss": …} a step
    attempts/0001/tensorboard/       the same

Each attempt writes its own; `history` puts them together: what an attempt did after the step that the next one
resumed from was lost and done again, so it counts once.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Record = dict[str, float]

_WINDOW = 20  # steps that throughput is averaged over
_FLUSH_SECONDS = 5


class MetricsLog:
    """Writer of one attempt's metrics; for rank 0."""

    def __init__(self, root: Path, *, attempt: int, start_step: int) -> None:
        self.directory = root / "attempts" / f"{attempt:04}"
        self.directory.mkdir(parents=True, exist_ok=True)
        self._file = (self.directory / "metrics.jsonl").open("w")
        self._board: TensorBoard | None = None
        self._line({"attempt": attempt, "start_step": start_step})

    def write(self, step: int, **values: float | None) -> None:
        """One line; values that are None are left out."""
        record = {"step": step, "time": time.time(), **{k: v for k, v in values.items() if v is not None}}
        self._line(record)
        self._board = self._board or TensorBoard(self.directory / "tensorboard")
        self._board.write(record)

    def close(self) -> None:
        """Write all out."""
        self._file.close()
        if self._board is not None:
            self._board.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _line(self, entry: Record) -> None:
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()  # a kill then costs nothing


class TensorBoard:
    """Writer of scalars; tags are train/… and evaluation/…"""

    def __init__(self, directory: Path) -> None:
        # 0.25 s, so it is not paid before the first step is done.
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event: Any = Event
        self._summary: Any = Summary
        self._writer: Any = EventFileWriter(str(directory), flush_secs=_FLUSH_SECONDS)

    def write(self, record: Record) -> None:
        """All values of one record."""
        values = [self._summary.Value(tag=_tag(name), simple_value=value) for name, value in record.items()
                  if name not in ("step", "time")]  # fmt: skip
        summary = self._summary(value=values)
        self._writer.add_event(self._event(wall_time=record["time"], step=int(record["step"]), summary=summary))

    def close(self) -> None:
        """Write all out."""
        self._writer.close()


def history(root: Path) -> list[Record]:
    """The records of all attempts as one run without interruption, in the order of steps."""
    records: list[Record] = []
    for path in sorted(root.glob("attempts/*/metrics.jsonl")):
        for entry in _entries(path):
            if "start_step" in entry:
                records = [record for record in records if record["step"] <= entry["start_step"]]
            else:
                records.append(entry)
    return records


def write_history(records: Iterable[Record], directory: Path) -> None:
    """metrics.jsonl and tensorboard/ of the whole run."""
    board = TensorBoard(directory / "tensorboard")
    with (directory / "metrics.jsonl").open("w") as file:
        for record in records:
            file.write(json.dumps(record) + "\n")
            board.write(record)
    board.close()


class Throughput:
    """Tokens a second over the last steps, and the time that is left."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times = deque([clock()], maxlen=_WINDOW + 1)
        self._tokens = deque[int](maxlen=_WINDOW)

    def step(self, tokens: int) -> float:
        """To be called after each step, with the tokens that it took: tokens a second."""
        self._times.append(self._clock())
        self._tokens.append(tokens)
        return sum(self._tokens) / max(self._times[-1] - self._times[0], 1e-9)

    def eta(self, steps_left: int) -> float | None:
        """Seconds for so many steps; None before the first."""
        return steps_left * self._seconds_per_step() if len(self._times) > 1 else None

    def _seconds_per_step(self) -> float:
        return (self._times[-1] - self._times[0]) / (len(self._times) - 1)


def _entries(path: Path) -> Iterable[Record]:
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:  # the line that was being written when the process was killed
            return


def _tag(name: str) -> str:
    return f"evaluation/{name.removeprefix('evaluation_')}" if name.startswith("evaluation_") else f"train/{name}"
