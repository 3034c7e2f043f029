"""Logs: one JSON object a line, with the object's kind, namespace and name as fields of their own.

Tokens, headers and bodies are never logged; messages come from our own sentences and the API server's.
"""

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import orjson

from lmforge_operator.kube.resources import Key


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON. `extra={"key": key}` names the object."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        key = getattr(record, "key", None)
        if isinstance(key, Key):
            line |= {"kind": key.kind, "namespace": key.namespace, "name": key.name}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


def configure(level: str) -> None:
    """Sends every logger of the process through the formatter, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in ("kopf", "aiohttp.access", "asyncio"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level)))
