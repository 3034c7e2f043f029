"""What a stream of server-sent events tells on its way through, without parsing its JSON.

Only whole events are passed on: a stream that breaks then never leaves half an event in front of the error that ends
it. Nothing is delayed by that, since clients wait for the empty line too.

The patterns look for names in bytes. That is exact: quotes in a JSON string are escaped, so none holds `"usage":`.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

_FINISH = re.compile(rb'"finish_reason"\s*:\s*"([^"]*)"')
_USAGE = re.compile(rb'"usage"\s*:\s*(?=\{)')
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_MODEL = re.compile(rb'"model"\s*:\s*"([^"\\]*)"')
_DONE = re.compile(rb"^data: ?\[DONE\]", re.MULTILINE)
_EVENT = re.compile(rb".*?\n\r?\n", re.DOTALL)
_CUT = frozenset({b"abort", b"error"})


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the engine counted them."""

    prompt: int
    completion: int

    @property
    def total(self) -> int:
        return self.prompt + self.completion


class EventSplitter:
    """Cuts bytes after the last whole event; `rest` is what came after it."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, chunk: bytes) -> bytes:
        """The whole events that there are now, as they came; mostly that is the chunk."""
        if not self.rest and chunk.endswith(b"\n\n"):
            return chunk
        data = self.rest + chunk
        lf, crlf = data.rfind(b"\n\n"), data.rfind(b"\n\r\n")
        end = max(lf + 2 if lf >= 0 else 0, crlf + 3 if crlf >= 0 else 0)
        self.rest = data[end:]
        return data[:end]


class StreamMeter:
    """Follows the blocks of whole events of one stream.

    `choices` says how many answers run in it: each has to tell its finish reason, or the stream was cut. (vLLM ends a
    stream that it aborts with [DONE] all the same, without a finish reason or with `abort`.)
    """

    def __init__(self, *, choices: int = 1, strip_usage: bool = False) -> None:
        self.events = 0
        self.model: str | None = None
        self.done = b""
        self._choices = choices
        self._strip_usage = strip_usage
        self._reasons: list[bytes] = []
        self._usage_block = b""

    def see(self, block: bytes) -> bytes:
        """Takes note of a block, and returns what of it goes to the client; [DONE] is kept in `done`."""
        self.events += block.count(b"\n\n") or block.count(b"\n\r\n")
        self._reasons += _FINISH.findall(block)
        if self.model is None:
            self.model = model_in(block)
        if _USAGE.search(block):
            self._usage_block = block
            if self._strip_usage and _NO_CHOICES.search(block):
                block = b"".join(event for event in _EVENT.findall(block) if not _is_usage_alone(event))
        if b"[DONE]" in block and (found := _DONE.search(block)):
            self.done = block[found.start() :]
            block = block[: found.start()]
        return block

    @property
    def is_whole(self) -> bool:
        """Whether each answer came to an end of its own."""
        return len(self._reasons) >= self._choices and _CUT.isdisjoint(self._reasons)

    @property
    def usage(self) -> Usage | None:
        """As the last event that has one says."""
        return usage_in(self._usage_block)


def _is_usage_alone(event: bytes) -> bool:
    return bool(_USAGE.search(event) and _NO_CHOICES.search(event))


def usage_in(data: bytes) -> Usage | None:
    """The last `usage` object of an answer or an event."""
    places = list(_USAGE.finditer(data))
    if not places:
        return None
    text = data[places[-1].end() :].decode(errors="replace")
    try:
        usage, _ = json.JSONDecoder().raw_decode(text)
    except ValueError:
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens", 0)
    return Usage(prompt, completion or 0) if isinstance(prompt, int) and isinstance(completion or 0, int) else None


def model_in(data: bytes) -> str | None:
    """The model that an answer names."""
    found = _MODEL.search(data)
    return found[1].decode(errors="replace") if found else None


def is_cut(answer: bytes) -> bool:
    """Whether an answer that came as a whole ends before its end."""
    return not _CUT.isdisjoint(_FINISH.findall(answer))


def payloads(block: bytes) -> Iterable[bytes]:
    """The data of each event but [DONE]."""
    for line in block.splitlines():
        if line.startswith(b"data:") and not _DONE.match(line):
            yield line[5:].lstrip()
