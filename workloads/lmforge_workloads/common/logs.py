"""Logs on stderr: one JSON object a line for machines, or plain text for people, with the rank in each."""

import json
import logging
import sys
from datetime import UTC, datetime

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One line of JSON a record; what is passed by `extra=` becomes keys of its own."""

    def __init__(self, *, rank: int | None) -> None:
        super().__init__()
        self.rank = rank

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if self.rank is not None:
            entry["rank"] = self.rank
        entry.update({key: value for key, value in vars(record).items() if key not in _STANDARD})
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)


def configure(*, rank: int | None = None, plain: bool | None = None, level: int = logging.INFO) -> None:
    """Send all logs to stderr. `plain` defaults to whether a person is looking (stderr is a terminal)."""
    plain = sys.stderr.isatty() if plain is None else plain
    place = "" if rank is None else f"[rank {rank}] "
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter(f"%(asctime)s {place}%(message)s", "%H:%M:%S") if plain else JsonFormatter(rank=rank)
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
