"""What a row teaches, in one of four forms, whatever its columns are called.

Text(text)                              all of it is learned
Completion(prompt, completion)          the completion is learned, as plain text
Chat(messages)                          the assistant's answers are learned, in the model's chat template
Preference(prompt, chosen, rejected)    the chosen answer rather than the rejected one
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from lmforge_workloads.common.exits import DataError
from lmforge_workloads.common.tables import Row

ROLES: Mapping[str, str] = {"human": "user", "gpt": "assistant", "bot": "assistant"}
"""Names that ShareGPT's files have for roles."""


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True)
class Text:
    """A text."""

    text: str


@dataclass(frozen=True)
class Completion:
    """A prompt, and what follows it."""

    prompt: str
    completion: str


@dataclass(frozen=True)
class Chat:
    """A conversation."""

    messages: list[Message]


@dataclass(frozen=True)
class Preference:
    """A conversation so far, and two ways to go on. `plain` where the model knows no conversations."""

    prompt: list[Message]
    chosen: str
    rejected: str


Example = Text | Completion | Chat | Preference


def is_empty(example: Example) -> bool:
    """Whether there is nothing to learn."""
    match example:
        case Text(text):
            return not text.strip()
        case Completion(_, completion):
            return not completion.strip()
        case Chat(messages):
            return not any(each["role"] == "assistant" and each["content"].strip() for each in messages)
        case Preference(_, chosen, rejected):
            return not chosen.strip() or not rejected.strip()


def text_of(row: Row, column: str) -> str:
    """A column as text: numbers are written out, nothing is the empty text."""
    value = row.values[column]
    if value is None:
        return ""
    if isinstance(value, (bool, int, float)):
        return str(value)
    if not isinstance(value, str):
        raise DataError(f"{column} is {_kind(value)}, not text", file=row.file, line=row.line)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        message = f"{column} holds half of a surrogate pair, which is no character"
        raise DataError(message, file=row.file, line=row.line) from error
    return value


def messages_of(row: Row, column: str) -> list[Message]:
    """A column as a conversation: a list of {role, content} or ShareGPT's {from, value}, or JSON of it."""
    value = row.values[column]
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except ValueError as error:
            message = f'{column} is not JSON of a conversation like [{{"role": "user", "content": …}}]: {error}'
            raise DataError(message, file=row.file, line=row.line) from error
    if value is None or value == "":
        return []
    if not isinstance(value, list):
        message = f"{column} is {_kind(value)}, not a list of messages like {{role, content}}"
        raise DataError(message, file=row.file, line=row.line)
    return [_message(each, place=f"message {number} of {column}", row=row) for number, each in enumerate(value, 1)]


def is_conversation(value: object) -> bool:
    """Whether a value looks like one, or like JSON of one."""
    return isinstance(value, list) or (isinstance(value, str) and value.lstrip().startswith("[{"))


def _message(value: object, *, place: str, row: Row) -> Message:
    if not isinstance(value, dict):
        raise DataError(f"{place} is {_kind(value)}, not {{role, content}}", file=row.file, line=row.line)
    role, content = value.get("role", value.get("from")), value.get("content", value.get("value"))
    if isinstance(content, list):  # parts, as APIs of multimodal models have them
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    if not isinstance(role, str) or not isinstance(content, str):
        keys = ", ".join(map(str, value)) or "none"
        message = f"{place} needs role and content, both text; it has the keys {keys}"
        raise DataError(message, file=row.file, line=row.line)
    return {"role": ROLES.get(role, role), "content": content}


def _kind(value: object) -> str:
    return type(value).__name__


def common_prefix(one: Sequence[object], other: Sequence[object]) -> int:
    """How many items both begin with."""
    length = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        length += 1
    return length
