"""A session's turns: how they come before a request, and how an answer becomes one. Pure.

What is stored is what the model saw, so that the next request starts with the same tokens and finds them in its prefix
cache. System messages are no part of it: each request brings its own, or its template does.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from lmforge_workloads.serve.gateway.endpoints import Fields
from lmforge_workloads.serve.gateway.sse import payloads
from lmforge_workloads.serve.gateway.templates import SYSTEM_ROLES

_KEPT = ("role", "content", "tool_calls", "refusal")


def with_history(messages: Sequence[Fields], turns: Sequence[bytes]) -> list[Fields]:
    """System messages that stand first, then the stored turns, then what is new."""
    first = next((place for place, message in enumerate(messages) if not _is_system(message)), len(messages))
    history = [message for turn in turns for message in orjson.loads(turn)]
    return [*messages[:first], *history, *messages[first:]]


def turn(messages: Sequence[Fields], answer: Fields) -> bytes:
    """A turn as it is stored: what was asked, and what was answered."""
    return orjson.dumps([*(message for message in messages if not _is_system(message)), answer])


def _is_system(message: Fields) -> bool:
    return message.get("role") in SYSTEM_ROLES


def answer_of(body: bytes) -> Fields | None:
    """The message of an answer that came as a whole."""
    choices = orjson.loads(body).get("choices") or [{}]
    message = choices[0].get("message")
    return None if message is None else {key: message[key] for key in _KEPT if message.get(key) is not None}


class StreamedAnswer:
    """Puts the message of a stream together from its deltas."""

    def __init__(self) -> None:
        self._content: list[str] = []
        self._calls: dict[int, Fields] = {}

    def see(self, block: bytes) -> None:
        """A block of whole events."""
        for data in payloads(block):
            for choice in orjson.loads(data).get("choices") or []:
                self._add(choice.get("delta") or {})

    def message(self) -> Fields:
        """What was answered."""
        content = "".join(self._content)
        answer: Fields = {"role": "assistant", "content": content or None if self._calls else content}
        if self._calls:
            answer["tool_calls"] = [self._calls[index] for index in sorted(self._calls)]
        return answer

    def _add(self, delta: dict[str, Any]) -> None:
        if isinstance(text := delta.get("content"), str):
            self._content.append(text)
        for part in delta.get("tool_calls") or []:
            call = self._calls.setdefault(part.get("index", 0), {"type": "function", "function": {"arguments": ""}})
            call |= {key: part[key] for key in ("id", "type") if part.get(key)}
            function = part.get("function") or {}
            call["function"] |= {"name": function["name"]} if function.get("name") else {}
            call["function"]["arguments"] += function.get("arguments") or ""
