"""OpenAI's JSON for an answer: as a whole, and as the events of a stream. Pure but for an ID and the time."""

import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import orjson

from lmforge_workloads.serve.onnx.generation import Finish

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Reply:
    """What all parts of one answer say alike."""

    model: str
    is_chat: bool
    prompt_tokens: int
    include_usage: bool = False
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, text: str, finish: Finish, *, tokens: int) -> bytes:
        """The answer at once."""
        said: dict[str, Any] = {"message": {"role": "assistant", "content": text}} if self.is_chat else {"text": text}
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": finish}
        kind = "chat.completion" if self.is_chat else "text_completion"
        return orjson.dumps(self._object(kind, [choice]) | {"usage": self._usage(tokens)})

    def opening(self) -> bytes:
        """The first event of a chat's stream says who speaks."""
        return self._event([_delta({"role": "assistant", "content": ""}, None)]) if self.is_chat else b""

    def piece(self, text: str, finish: Finish | None) -> bytes:
        """The events of a piece; none when it shows nothing."""
        if not self.is_chat:
            choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
            return self._event([choice]) if text or finish else b""
        shown = self._event([_delta({"content": text}, None)]) if text else b""
        return shown + (self._event([_delta({}, finish)]) if finish else b"")

    def closing(self, *, tokens: int) -> bytes:
        """The last events."""
        if not self.include_usage:
            return DONE
        return _sse(self._object(self._stream_kind, []) | {"usage": self._usage(tokens)}) + DONE

    @property
    def _stream_kind(self) -> str:
        return "chat.completion.chunk" if self.is_chat else "text_completion"

    def _event(self, choices: list[dict[str, Any]]) -> bytes:
        return _sse(self._object(self._stream_kind, choices) | ({"usage": None} if self.include_usage else {}))

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        name = f"{'chatcmpl' if self.is_chat else 'cmpl'}-{self.id}"
        return {"id": name, "object": kind, "created": self.created, "model": self.model, "choices": choices}

    def _usage(self, tokens: int) -> dict[str, int]:
        both = self.prompt_tokens + tokens
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": tokens, "total_tokens": both}


def _delta(delta: dict[str, str], finish: Finish | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}


def _sse(event: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(event) + b"\n\n"
